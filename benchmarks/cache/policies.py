"""The known best eviction policies, replayed in memory: what a hit ratio could be on a trace.

Every policy is given the trace as (key, size) and the capacity in bytes, and answers with hits and hit bytes. They are
written for clearness, from the papers, in bytes where the papers count objects. An object over the capacity is passed
by. ``belady`` knows the future; counted in bytes it is a bound only nearly, as the best choice by size is hard.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Trace = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Hits:
    requests: int
    bytes: int


def lru(trace: Trace, capacity: int) -> Hits:
    kept: OrderedDict[int, int] = OrderedDict()
    used = hits = hit_bytes = 0
    for key, size in trace:
        if key in kept:
            kept.move_to_end(key)
            hits += 1
            hit_bytes += size
        elif size <= capacity:
            kept[key] = size
            used += size
            while used > capacity:
                used -= kept.popitem(last=False)[1]
    return Hits(hits, hit_bytes)


def s3_fifo(trace: Trace, capacity: int, small: float = 0.1, ghosts: float = 1.0, most: int = 3, move: int = 1) -> Hits:
    """Yang et al., SOSP 2023."""
    where: dict[int, list[int]] = {}  # [size, uses, queue: 0 small, 1 main]
    queues: tuple[deque[int], deque[int]] = (deque(), deque())
    used = [0, 0]
    ghost: OrderedDict[int, int] = OrderedDict()
    ghost_used = 0
    hits = hit_bytes = 0
    for key, size in trace:
        entry = where.get(key)
        if entry:
            entry[1] = min(entry[1] + 1, most)
            hits += 1
            hit_bytes += size
            continue
        if size > capacity:
            continue
        to = 0
        if key in ghost:
            ghost_used -= ghost.pop(key)
            to = 1
        where[key] = [size, 0, to]
        queues[to].append(key)
        used[to] += size
        while used[0] + used[1] > capacity:
            if used[0] > capacity * small or not queues[1]:
                old = queues[0].popleft()
                entry = where[old]
                used[0] -= entry[0]
                if entry[1] >= move:
                    entry[1] = 0
                    entry[2] = 1
                    queues[1].append(old)
                    used[1] += entry[0]
                else:
                    del where[old]
                    ghost[old] = entry[0]
                    ghost_used += entry[0]
                    while ghost_used > capacity * ghosts:
                        ghost_used -= ghost.popitem(last=False)[1]
            else:
                old = queues[1].popleft()
                entry = where[old]
                if entry[1]:
                    entry[1] -= 1
                    queues[1].append(old)
                else:
                    used[1] -= entry[0]
                    del where[old]
    return Hits(hits, hit_bytes)


def sieve(trace: Trace, capacity: int) -> Hits:
    """Zhang et al., NSDI 2024; the hand as a rotation of the queue."""
    kept: dict[int, list[int]] = {}  # [size, visited]
    nexts: dict[int, int] = {}
    previous: dict[int, int] = {}
    head = tail = hand = -1  # head newest, tail oldest; previous leads from old to new
    used = hits = hit_bytes = 0
    for key, size in trace:
        entry = kept.get(key)
        if entry:
            entry[1] = 1
            hits += 1
            hit_bytes += size
            continue
        if size > capacity:
            continue
        used += size
        while used > capacity:
            at = hand if hand != -1 else tail
            while kept[at][1]:
                kept[at][1] = 0
                at = previous[at] if previous[at] != -1 else tail
            hand = previous[at]
            used -= kept.pop(at)[0]
            newer, older = previous.pop(at), nexts.pop(at)
            if newer != -1:
                nexts[newer] = older
            else:
                head = older
            if older != -1:
                previous[older] = newer
            else:
                tail = newer
        kept[key] = [size, 0]
        nexts[key], previous[key] = head, -1
        if head != -1:
            previous[head] = key
        head = key
        if tail == -1:
            tail = key
    return Hits(hits, hit_bytes)


def arc(trace: Trace, capacity: int) -> Hits:
    """Megiddo and Modha, FAST 2003, in bytes."""
    recent: OrderedDict[int, int] = OrderedDict()
    often: OrderedDict[int, int] = OrderedDict()
    recent_ghosts: OrderedDict[int, int] = OrderedDict()
    often_ghosts: OrderedDict[int, int] = OrderedDict()
    used = {id(q): 0 for q in (recent, often, recent_ghosts, often_ghosts)}
    target = 0.0
    hits = hit_bytes = 0

    def put(queue: OrderedDict[int, int], key: int, size: int) -> None:
        queue[key] = size
        used[id(queue)] += size

    def take(queue: OrderedDict[int, int], key: int) -> int:
        size = queue.pop(key)
        used[id(queue)] -= size
        return size

    def replace(incoming_often: bool) -> None:
        in_recent = used[id(recent)]
        if recent and (in_recent > target or (incoming_often and in_recent == target) or not often):
            old = next(iter(recent))
            put(recent_ghosts, old, take(recent, old))
        else:
            old = next(iter(often))
            put(often_ghosts, old, take(often, old))

    for key, size in trace:
        if key in recent:
            put(often, key, take(recent, key))
            hits += 1
            hit_bytes += size
            continue
        if key in often:
            often.move_to_end(key)
            hits += 1
            hit_bytes += size
            continue
        if size > capacity:
            continue
        ghost = key in often_ghosts
        if key in recent_ghosts:
            target = min(target + size * max(1.0, used[id(often_ghosts)] / used[id(recent_ghosts)]), capacity)
            take(recent_ghosts, key)
            to = often
        elif ghost:
            target = max(target - size * max(1.0, used[id(recent_ghosts)] / used[id(often_ghosts)]), 0.0)
            take(often_ghosts, key)
            to = often
        else:
            to = recent
        while used[id(recent)] + used[id(often)] + size > capacity:
            replace(ghost)
        put(to, key, size)
        while recent_ghosts and used[id(recent)] + used[id(recent_ghosts)] > capacity:
            take(recent_ghosts, next(iter(recent_ghosts)))
        while often_ghosts and sum(used.values()) > 2 * capacity:
            take(often_ghosts, next(iter(often_ghosts)))
    return Hits(hits, hit_bytes)


def w_tinylfu(trace: Trace, capacity: int, window: float = 0.01, power: float = 1.0) -> Hits:
    """Einziger et al., ACM ToS 2017: a window of 1 %, a segmented LRU behind it, exact counts halved now and then.

    An arrival must have been used more often than all those together that make room for it (Einziger et al., 2022).
    With another ``power`` n of them count n to that power times their mean: 0 makes size count for nothing.
    """
    uses: dict[int, int] = {}
    noted = 0
    lists: tuple[OrderedDict[int, int], ...] = (OrderedDict(), OrderedDict(), OrderedDict())
    first, probation, protected = lists
    used = [0, 0, 0]
    window_bytes, protected_bytes = capacity * window, capacity * (1 - window) * 0.8
    main_bytes = capacity - window_bytes
    where: dict[int, int] = {}
    hits = hit_bytes = 0

    def move(key: int, to: int) -> None:
        size = lists[where[key]].pop(key)
        used[where[key]] -= size
        lists[to][key] = size
        used[to] += size
        where[key] = to

    for key, size in trace:
        uses[key] = min(uses.get(key, 0) + 1, 15)
        noted += 1
        if noted >= 10 * max(len(where), 1000):
            uses = {k: n // 2 for k, n in uses.items() if n > 1}
            noted //= 2
        at = where.get(key)
        if at is not None:
            hits += 1
            hit_bytes += size
            if at == 1:
                move(key, 2)
                while used[2] > protected_bytes:
                    move(next(iter(protected)), 1)
            else:
                lists[at].move_to_end(key)
            continue
        if size > main_bytes:
            continue
        first[key] = size
        used[0] += size
        where[key] = 0
        while used[0] > window_bytes:
            candidate = next(iter(first))
            need = used[1] + used[2] + first[candidate] - main_bytes
            if need <= 0:
                move(candidate, 1)
                continue
            victims, freed, weight = [], 0, 0
            for victim_list in (probation, protected):
                for victim in victim_list:
                    if freed >= need:
                        break
                    victims.append(victim)
                    freed += victim_list[victim]
                    weight += uses.get(victim, 0)
            if uses.get(candidate, 0) > weight * len(victims) ** (power - 1):
                for victim in victims:
                    used[where[victim]] -= lists[where[victim]].pop(victim)
                    del where[victim]
                move(candidate, 1)
            else:
                for victim in victims:
                    lists[where[victim]].move_to_end(victim)
                used[0] -= first.pop(candidate)
                del where[candidate]
    return Hits(hits, hit_bytes)


def gdsf(trace: Trace, capacity: int) -> Hits:
    """Cherkasova 1998: uses over size, and an age that rises with what leaves."""
    kept: dict[int, tuple[float, int, int]] = {}
    heap: list[tuple[float, int]] = []
    age = 0.0
    used = hits = hit_bytes = 0
    for key, size in trace:
        old = kept.get(key)
        if old:
            hits += 1
            hit_bytes += size
            n = old[1] + 1
        elif size > capacity:
            continue
        else:
            n = 1
            used += size
        weight = age + n / size
        kept[key] = (weight, n, size)
        heapq.heappush(heap, (weight, key))
        while used > capacity:
            weight, victim = heapq.heappop(heap)
            if victim in kept and kept[victim][0] == weight:
                age = weight
                used -= kept.pop(victim)[2]
    return Hits(hits, hit_bytes)


def belady(trace: Trace, capacity: int) -> Hits:
    """Evicts what is used again last; what is never used again is not kept at all."""
    never = len(trace)
    following = [never] * len(trace)
    last: dict[int, int] = {}
    for i in range(len(trace) - 1, -1, -1):
        following[i] = last.get(trace[i][0], never)
        last[trace[i][0]] = i
    kept: dict[int, tuple[int, int]] = {}
    heap: list[tuple[int, int]] = []
    used = hits = hit_bytes = 0
    for i, (key, size) in enumerate(trace):
        after = following[i]
        if key in kept:
            hits += 1
            hit_bytes += size
            used -= kept.pop(key)[1]
        if after == never or size > capacity:
            continue
        kept[key] = (after, size)
        used += size
        heapq.heappush(heap, (-after, key))
        while used > capacity:
            negative, victim = heapq.heappop(heap)
            if victim in kept and kept[victim][0] == -negative:
                used -= kept.pop(victim)[1]
    return Hits(hits, hit_bytes)


POLICIES: dict[str, Callable[[Trace, int], Hits]] = {
    "LRU": lru,
    "SIEVE": sieve,
    "ARC": arc,
    "S3-FIFO": s3_fifo,
    "W-TinyLFU": w_tinylfu,
    "GDSF": gdsf,
    "Belady": belady,
}
