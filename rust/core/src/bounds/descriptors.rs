//! How the file descriptors of the process are divided up (setrlimit(2), `RLIMIT_NOFILE`).

use crate::plan::{Plan, Target};

/// For the admin listener's connections and the files that its answers open, and for log files, name look-ups and
/// descriptors that Python code opens.
const ADMIN: u64 = 72;
const PYTHON: u64 = 64;
/// For each event loop: its epoll instance, its waker, and the sockets that it has accepted but not counted yet.
const A_LOOP: u64 = 12;
/// For each pipe of a worker.
const A_PIPE: u64 = 2;
/// For each thread that opens files: the folder of the route, a folder on the way, a file and a coding of it, and one
/// for a change of folders.
const A_FILE_THREAD: u64 = 5;
/// Connections that are always allowed: with fewer an edge is useless.
const LEAST: u64 = 16;

/// The descriptors of the process that are in use or reserved, as far as known at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// The soft limit.
    pub limit: u64,
    /// Descriptors open before the first connection.
    pub open: u64,
    /// Event loops.
    pub loops: u64,
    /// Event loops that serve.
    pub workers: u64,
}

impl Descriptors {
    /// The number of client connections that fit, up to the number in `plan`.
    pub fn connections(&self, plan: &Plan) -> usize {
        let left = self.limit.saturating_sub(self.reserve(plan)).max(LEAST);
        plan.limits
            .http
            .connections
            .min(usize::try_from(left).unwrap_or(usize::MAX))
    }

    /// The number reserved for everything but client connections.
    pub fn reserve(&self, plan: &Plan) -> u64 {
        let loops = self.loops.saturating_mul(A_LOOP);
        let pipes = (plan.limits.http.pipes as u64).saturating_mul(A_PIPE * self.workers);
        let disk = plan.disk_cache.as_ref().map_or(0, |disk| {
            let segment = disk.segment_bytes.unwrap_or(disk.size / 128);
            let segment = segment.clamp(64 << 10, 1 << 30);
            // Each segment has a file that stays open and a sidecar that is read at times.
            disk.size.div_ceil(segment).saturating_add(8)
        });
        let files = if serves_files(plan) {
            let threads = (plan.limits.files.threads as u64).saturating_mul(A_FILE_THREAD);
            threads.saturating_add(self.open_files(plan) as u64)
        } else {
            0
        };
        [
            self.open,
            ADMIN,
            PYTHON,
            loops,
            pipes,
            disk,
            files,
            self.origins(plan),
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// The number of files that routes may have open: the configured one, up to a quarter of all.
    pub fn open_files(&self, plan: &Plan) -> usize {
        let quarter = usize::try_from(self.limit / 4).unwrap_or(usize::MAX);
        plan.limits.files.open_files.min(quarter.max(1))
    }

    /// For connections to origins: their configured maximum, up to a quarter of all.
    fn origins(&self, plan: &Plan) -> u64 {
        let most = plan
            .origins
            .iter()
            .map(|origin| origin.pool.most as u64)
            .fold(0, u64::saturating_add)
            .saturating_mul(self.loops);
        most.min(self.limit / 4)
    }
}

fn serves_files(plan: &Plan) -> bool {
    (plan.routes.iter()).any(|route| matches!(route.target, Target::Files(_)))
}

/// True if a worker with `own` of `all` connections has its share of them: one with fewer would close new connections,
/// while others keep old ones.
pub fn has_its_share(own: usize, all: usize, workers: usize) -> bool {
    own >= all / workers.max(1)
}

/// True if a worker with `own` of `all` connections ends one of its own while others need room: there are more than `most`,
/// and it has its share. One that has fewer waits until those with more say that none of theirs is idle (`asked`): it may
/// have the newest of all, because it was slow to accept them.
pub fn gives_way(own: usize, all: usize, most: usize, workers: usize, asked: bool) -> bool {
    all > most && (asked || has_its_share(own, all, workers))
}

/// The idle connections to close first: the `most` that have waited longest for a request, the longest first. Each is
/// given with the time at which its wait began, or a key that orders those of one time as well.
pub fn longest_idle<K: Ord + Copy, T>(mut idle: Vec<(K, T)>, most: usize) -> Vec<T> {
    if idle.len() > most && most > 0 {
        idle.select_nth_unstable_by_key(most - 1, |(since, _)| *since);
    }
    idle.truncate(most);
    idle.sort_by_key(|(since, _)| *since);
    idle.into_iter().map(|(_, one)| one).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::plan::compile;

    fn plan(more: &str) -> Plan {
        let json = format!(r#"{{"version":1,"name":"test"{more}}}"#);
        compile(json.as_bytes()).unwrap()
    }

    fn descriptors(limit: u64) -> Descriptors {
        Descriptors {
            limit,
            open: 40,
            loops: 4,
            workers: 2,
        }
    }

    #[test]
    fn connections_fit_beside_what_else_needs_descriptors() {
        let origin = r#","origins":[{"name":"a","url":"http://a.example"}]"#;
        let piped = r#","limits":{"http":{"pipes":0}}"#;
        let disk = r#","disk_cache":{"path":"/d","size":134217728,"segment_bytes":1048576}"#;
        let wanted = r#","limits":{"http":{"connections":100}}"#;
        let files = r#","routes":[{"pattern":"/*","files":{"folder":"/srv"}}]"#;
        // open + admin + Python + loops + pipes: 40 + 72 + 64 + 48 + 64.
        for (more, limit, connections) in [
            ("", 1_048_576, 50_000),
            ("", 1_024, 736),
            (wanted, 1_024, 100),
            // 256 for each loop, but no more than a quarter.
            (origin, 1_024, 736 - 256),
            (origin, 65_536, 50_000),
            (disk, 1_024, 736 - 136),
            // 5 for each of 8 threads, and a quarter of all for open files.
            (files, 1_024, 736 - 40 - 256),
            (piped, 1_024, 800),
            ("", 230, 16),
            ("", 0, 16),
        ] {
            let fits = descriptors(limit).connections(&plan(more));
            assert_eq!(fits, connections, "{more} {limit}");
        }
    }

    #[test]
    fn a_worker_with_fewer_connections_than_the_average_does_not_have_its_share() {
        for (own, all, workers, has) in [
            (100, 100, 1, true),
            (34, 100, 3, true),
            (33, 100, 3, true),
            (32, 100, 3, false),
            (0, 100, 3, false),
            (0, 0, 0, true),
        ] {
            let found = has_its_share(own, all, workers);
            assert_eq!(found, has, "{own} of {all}, {workers} workers");
        }
    }

    #[test]
    fn a_worker_that_has_fewer_gives_way_when_it_is_asked() {
        for (own, all, asked, gives) in [
            (367, 742, false, true),
            (32, 742, false, false),
            (32, 742, true, true),
            (0, 742, false, false),
            (367, 710, false, false),
            (367, 710, true, false),
        ] {
            let found = gives_way(own, all, 710, 3, asked);
            assert_eq!(found, gives, "{own} of {all}, asked: {asked}");
        }
    }

    #[test]
    fn of_those_that_wait_for_the_same_time_the_first_accepted_comes_first() {
        let idle = vec![((5, 2), 'a'), ((5, 0), 'b'), ((5, 1), 'c'), ((4, 9), 'd')];
        assert_eq!(longest_idle(idle, 3), ['d', 'b', 'c']);
    }

    #[test]
    fn those_that_waited_longest_come_first() {
        for (idle, most, first) in [
            (vec![], 3, vec![]),
            (vec![(5, 'a')], 0, vec![]),
            (
                vec![(5, 'a'), (2, 'b'), (9, 'c'), (1, 'd')],
                2,
                vec!['d', 'b'],
            ),
            (vec![(5, 'a'), (2, 'b')], 9, vec!['b', 'a']),
        ] {
            assert_eq!(longest_idle(idle, most), first);
        }
    }
}
