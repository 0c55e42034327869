/* The raw limit: what one core can answer when nothing is parsed.
 *
 * One epoll loop; for each readable connection one read and one write of a canned 1 KiB response.
 * It is no server: it assumes that a read holds one whole request (true for wrk, which does not pipeline).
 * Everything that a real server does comes on top of the CPU time measured here.
 *
 *   raw PORT            listens on 127.0.0.1:PORT until it is killed
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BODY = 1024, EVENTS = 256 };

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* The same bytes as the origin sends, so that the harness verifies every server in one way. */
static size_t response(char *out, size_t room) {
    int head = snprintf(out, room,
                        "HTTP/1.1 200 OK\r\n"
                        "content-type: text/plain\r\n"
                        "content-length: %d\r\n"
                        "cache-control: public, max-age=3600\r\n"
                        "etag: \"bench-1024\"\r\n"
                        "date: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
                        "last-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
                        "\r\n",
                        BODY);
    for (int i = 0; i < BODY; i++) out[head + i] = (char)('a' + i % 26);
    return (size_t)head + BODY;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: raw PORT\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    static char canned[BODY + 1024], request[16384];
    size_t length = response(canned, sizeof canned);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (listener < 0) die("socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1])), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (bind(listener, (struct sockaddr *)&at, sizeof at) < 0) die("bind");
    if (listen(listener, 65535) < 0) die("listen");
    int poll = epoll_create1(0);
    if (poll < 0) die("epoll_create1");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[EVENTS];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poll, events, EVENTS, -1);
        if (ready < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                int connection = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (connection < 0) continue;
                setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = connection};
                epoll_ctl(poll, EPOLL_CTL_ADD, connection, &event);
                continue;
            }
            ssize_t got = read(fd, request, sizeof request);
            if (got < 0 && errno == EAGAIN) continue;
            if (got <= 0 || write(fd, canned, length) != (ssize_t)length) close(fd);
        }
    }
}
