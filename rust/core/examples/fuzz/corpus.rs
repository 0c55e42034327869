//! The inputs that mutation starts from, and the words that it inserts.

fn all(texts: &[&[u8]]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.to_vec()).collect()
}

/// Inserted into inputs of every kind.
pub(crate) const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\t",
    b" ",
    b"\0",
    b"\x7f",
    b"\xff",
    b"\xc3\xbc",
    b",",
    b";",
    b":",
    b"=",
    b"\"",
    b"\\",
    b"%",
    b"%2e",
    b"%2F",
    b"%00",
    b"%c3%28",
    b"/",
    b"//",
    b"/../",
    b"/./",
    b"?",
    b"*",
    b"**",
    b"{a}",
    b"{a:path}",
    b"0",
    b"-1",
    b"1e999",
    b"2147483648",
    b"18446744073709551615",
    b"18446744073709551616",
    b"99999999999999999999",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"\"\"",
    b"chunked",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 3\r\n",
    b"Host: b\r\n",
    b"Upgrade: x\r\nConnection: upgrade\r\n",
    b" HTTP/1.1\r\n",
    b"GET ",
    b"http://a/",
    b"max-age=1",
    b"no-store",
    b"private=\"x\"",
    b"W/\"a\"",
    b"bytes=",
    b"0-",
    b"-0",
    b"..",
    b"__proto__",
    b"Accept-Encoding",
];

pub(crate) fn messages() -> Vec<Vec<u8>> {
    all(&[
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\nGET /a?b=c HTTP/1.1\r\nhost: a:80\r\naccept: */*\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n0\r\nX-T: 1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: 5\r\nF: 6\r\n\r\n",
    ])
}

pub(crate) fn chunked() -> Vec<Vec<u8>> {
    all(&[
        b"3\r\nabc\r\n0\r\n\r\n",
        b"3;a=b;c=\"d\\\"e;\"\r\nabc\r\n1\r\nx\r\n0\r\nX-Trailer: 1\r\nY: 2\r\n\r\n",
        b"0\r\n\r\n0\r\n\r\n",
        b"000000000000001\r\na\r\n00\r\n\r\n",
        b"fF\r\n",
        b"3\nabc\n0\n\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"0\r\nContent-Length: 3\r\n\r\n",
    ])
}

pub(crate) fn heads() -> Vec<Vec<u8>> {
    all(&[
        b"x-user-id: 1\nx_user_id: 2\nX-Forwarded-For: 1.2.3.4\nconnection: x-a, close\nx-a: 1\nte: trailers",
        b"content_length: 1\nconnection: host, \"x\", ,\nupgrade: h2c\nhttp2-settings: a\nkeep-alive: 1",
    ])
}

pub(crate) fn cache_control() -> Vec<Vec<u8>> {
    all(&[
        b"max-age=60, s-maxage=10, stale-while-revalidate=30, stale-if-error=\"600\"",
        b"no-cache=\"set-cookie, x-a\", private=\"x-b\", no-cache, private",
        b"public, must-revalidate, must-understand, immutable\nmax-age=99999999999999999999",
        b"max-stale, min-fresh=5, only-if-cached, no-transform, max-stale=1",
        b"x=\"max-age=60\\\", no-store",
        b"max-age=60;x=1, private=?0, no-store",
        b"private=\"x-a, \\\"x-b\", no-cache=\"\", s-maxage=\"5\", public=x, no-store=()",
    ])
}

pub(crate) fn cookies() -> Vec<Vec<u8>> {
    all(&[
        b"a=1; b=2;c=3\nd=\"4\"; a=5",
        b"xab-variant=no; ab-variant=a; ab-variant=b",
        b"=x; y; z=;;; =; a =b ; c= d\t",
        b"a=b=c; \xc3\xbc=1",
    ])
}

pub(crate) fn inner_urls() -> Vec<Vec<u8>> {
    all(&[
        b"http://app.internal/app/next?a=b#c",
        b"/app//evil.example",
        b"/app\\evil.example",
        b"//app.internal:80/app",
        b"5; url='http://app.internal/app/x'",
        b"a=b; Domain=.app.internal; Path=/app/x; Secure",
        b"__Host-a=b; Path=/app",
    ])
}

pub(crate) fn dates() -> Vec<Vec<u8>> {
    all(&[
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
        b"Fri, 31 Dec 9999 23:59:59 GMT",
        b"Thu, 29 Feb 2024 23:59:60 GMT",
        b"0",
    ])
}

pub(crate) fn etags() -> Vec<Vec<u8>> {
    all(&[
        b"\"a\"",
        b"W/\"a\"",
        b"\"a,b\"",
        b"\"a\", W/\"b\", \"c\"",
        b"*",
        b"\"\"",
        b"w/\"a\"",
        b"\"a b\\\"",
    ])
}

pub(crate) fn ranges() -> Vec<Vec<u8>> {
    all(&[
        b"\x00\x0abytes=0-3",
        b"\x00\xffbytes=-5, 0-0, 7-",
        b"\x00\x64BYTES = 0-0,5-9 , 99-",
        b"\x00\x00bytes=0-",
        b"\x00\x0abytes=0-99999999999999999999999",
        b"\x01\x00bytes=0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-",
    ])
}

pub(crate) fn dictionaries() -> Vec<Vec<u8>> {
    all(&[
        b"max-age=60, must-revalidate, a=?1;b=\"c\", d=(1 2);e, f=:aGk=:, g=-1.5, h=token/x",
        b"a=1,\ta=2 , *b=?0",
        b"",
        b"a=999999999999999, b=-0, c=\"\\\\\\\"\"",
        b"private=\"x-a, \\\"x-b\", no-cache=\"\", s-maxage=\"5\\\\\", d=\"\",d=\"e\"",
    ])
}

pub(crate) fn paths() -> Vec<Vec<u8>> {
    all(&[
        b"/a/./b/../c//d/%2e%2E/%7euser/%2f",
        b"/../../..",
        b"/%25%32%65/%c3%bc/",
        b"/.well-known/...//./",
        b"a=1&b=2&a=%33&%61=4&&=5&c\na",
        b"a%2=1&+=2\n ",
    ])
}

pub(crate) fn file_paths() -> Vec<Vec<u8>> {
    all(&[
        b"/assets/a/b.js",
        b"/assets/../x",
        b"/assets/%2e%2e%2Fx%00",
        b"/assets//a/./.env/",
        b"/assets/.well-known/%C3%BC",
    ])
}

pub(crate) fn urls() -> Vec<Vec<u8>> {
    all(&[
        b"a.example\n/a\nb=c\na.example\n/a\nb=c",
        b"a\n/\n\na\n/",
        b"x-a: 1\ncookie: a=b\naccept-encoding: br;q=0, gzip\n/\n?\n",
    ])
}

pub(crate) fn vary() -> Vec<Vec<u8>> {
    all(&[
        b"Accept-Language, accept-encoding\naccept-language: de, en;q=0.5\naccept-encoding: gzip",
        b"*\na: b",
        b"x-a,x-b , X-A\nx-a: \nx-b: 1\nx-b: 2",
        b"a, *\n",
    ])
}

pub(crate) fn responses() -> Vec<Vec<u8>> {
    all(&[
        b"cache-control: max-age=60, stale-while-revalidate=30\ndate: Fri, 15 Jan 2027 08:00:00 GMT\nage: 5\netag: \"a\"",
        b"expires: Fri, 15 Jan 2027 09:00:00 GMT\nlast-modified: Sun, 06 Nov 1994 08:49:37 GMT\nvary: accept\nif-none-match: *",
        b"cdn-cache-control: max-age=5\nset-cookie: a=b\nauthorization: x\npragma: no-cache\nage: -1",
        b"location: ../b/./c?d#e\ncontent-location: http://a.example/x/%2e%2e/y\nwarning: 110\nexpires: 0\nrange: bytes=0-",
        b"\x02location: //a.example/\nif-modified-since: Sun, 06 Nov 1994 08:49:37 GMT\nif-range: \"a\"\nage: 99999999999999999999",
    ])
}

pub(crate) fn payloads() -> Vec<Vec<u8>> {
    all(&[
        br#"{"sub":"u-1","role":["a","b"],"exp":1900000000,"nbf":1,"iat":1.5,"aud":["x"]}"#,
        b"{\"alg\":\"HS256\",\"typ\":\"JWT\",\"kid\":\"a\"}\n{\"sub\":17,\"exp\":1e30}",
        br#"{"sub":"\u00fc\u0000\r\n","role":null,"exp":"1900000000"}"#,
        br#"{"sub":"a","sub":"b","nbf":-1,"exp":18446744073709551615}"#,
        b"{\"alg\":\"HS256\",\"alg\":\"none\"}\n[[[[[[[[[[[[]]]]]]]]]]]]",
    ])
}

pub(crate) fn key_sets() -> Vec<Vec<u8>> {
    all(&[
        br#"{"keys":[{"kty":"oct","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY","alg":"HS256","kid":"a"}]}"#,
        br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","use":"sig","key_ops":["verify"]}]}"#,
        br#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#,
        br#"{"keys":[{"kty":"RSA","e":"AQAB","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}]}"#,
        br#"{"keys":[{},{"kty":"oct"},null,{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}"#,
    ])
}

pub(crate) fn forwarded() -> Vec<Vec<u8>> {
    all(&[
        b"x-forwarded-for: 1.2.3.4, 10.0.0.2\nx-forwarded-proto: https",
        b"x-forwarded-for: [::1]:80, unknown, \"1.2.3.4:5\"\nx-forwarded-for: ::ffff:10.0.0.1\nx-forwarded-proto: http, https",
    ])
}

pub(crate) fn patterns() -> Vec<Vec<u8>> {
    all(&[
        b"/static/*\n/static/*.png\n/static/a/b.png",
        b"/img/??.png\n/img/*\n/img/ab.png",
        b"/x/{name}/{rest:path}\n/x/*/y\n/x/a%20b/c/d",
        b"/a*b*c*d*e*\n/*a*a*a*a*a*\n/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
        b"/*\n/\n/",
        b"/{a}-{b}\n/{a}.*\n/x-y-z",
    ])
}

pub(crate) fn plans() -> Vec<Vec<u8>> {
    all(&[
        include_bytes!("../../src/plan/compile/every_field.json"),
        br#"{"version":1,"name":"a","origins":[{"name":"o","url":"http://127.0.0.1:1"}],"routes":[{"pattern":"/*","to":"o"}]}"#,
        br#"{"version":1,"name":"a","origins":[{"name":"o","url":"http://[::1]:1/b"}],"routes":[{"pattern":"*.a.example/x/{p}","to":"o","cache":{"ttl":-5,"max_ttl":1e9},"priority":-3},{"pattern":"/x/*","redirect":{"location":"/{q}"}}]}"#,
        br#"{"version":1,"name":"a","routes":[{"pattern":"/*","respond":{"status":200,"headers":{},"body":""}}]}"#,
    ])
}

pub(crate) fn requests() -> Vec<Vec<u8>> {
    all(&[
        b"GET https://www.example.com/shop/a?page=2&q=1\nuser-agent: Mobile\ncookie: beta=1; ab-variant=control; lang=de",
        b"POST http://x.shop.example.com/shop/../shop/%2e/b?q\ncontent-length: 3\nauthorization: Bearer a.b.c",
        b"HEAD /old/a//b\nhost: a:80\nrange: bytes=0-1\nif-none-match: \"a\"",
        b"OPTIONS *\nhost: a\nconnection: upgrade\nupgrade: websocket",
        b"GET http://[::1]:80/robots.txt",
        b"CONNECT a:1\nhost: \nx-forwarded-for: 1",
    ])
}
