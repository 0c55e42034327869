//! The memory that this process may use, as the kernel says.

use std::{
    fs::read_to_string,
    path::{Component, Path, PathBuf},
};

/// Bytes of memory: the machine's, or less if a control group that this process is in has a limit, as that of a
/// container has. `root` is the folder of `proc` and `sys`; `None`: neither is known.
pub(super) fn usable(root: &Path) -> Option<u64> {
    let groups = read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().filter_map(limit_file);
    let limits = limits.filter_map(|(file, group)| lowest(root, file, &group));
    limits.chain(machine(root)).min()
}

fn machine(root: &Path) -> Option<u64> {
    let text = read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

/// The place of a hierarchy's limits and the group of this process in it, by a line of `/proc/self/cgroup`
/// (cgroups(7)). `None`: the hierarchy does not limit memory.
fn limit_file(line: &str) -> Option<((&'static str, &'static str), PathBuf)> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, group) = rest.split_once(':')?;
    let file = match controllers {
        "" => ("sys/fs/cgroup", "memory.max"),
        _ if controllers.split(',').any(|it| it == "memory") => {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    // A container may see the name that its group has outside: the group at the top is its own then.
    let parts = Path::new(group)
        .components()
        .filter(|part| matches!(part, Component::Normal(_)));
    Some((file, parts.collect()))
}

/// The lowest limit of a group and those above it. Without one they say `max`, or a number beyond all memory.
fn lowest(root: &Path, (mount, file): (&str, &str), group: &Path) -> Option<u64> {
    let mount = root.join(mount);
    let limits = group.ancestors().filter_map(|group| {
        let text = read_to_string(mount.join(group).join(file)).ok()?;
        text.trim().parse::<u64>().ok().filter(|&limit| limit > 0)
    });
    limits.min()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// A machine of 8 GiB with these files.
    fn usable_with(name: &str, files: &[(&str, &str)]) -> Option<u64> {
        let id = std::process::id();
        let root = std::env::temp_dir().join(format!("edgerouter-memory-{id}-{name}"));
        let machine = ("proc/meminfo", "MemFree: 1 kB\nMemTotal:  8388608 kB\n");
        for (path, text) in [machine].iter().chain(files) {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found = usable(&root);
        fs::remove_dir_all(root).unwrap();
        found
    }

    #[test]
    fn the_lowest_limit_of_the_groups_of_this_process_counts() {
        let v2 = ("proc/self/cgroup", "0::/system.slice/edge.service\n");
        let v1 = ("proc/self/cgroup", "9:cpu:/\n4:memory:/docker/1f\n0::/\n");
        let away = ("proc/self/cgroup", "0::/../../kubepods/pod7\n");
        let unlimited = "9223372036854771712\n";
        for (name, files, mib) in [
            ("none", vec![], 8_192),
            (
                "unlimited",
                vec![v2, ("sys/fs/cgroup/memory.max", "max\n")],
                8_192,
            ),
            (
                "service",
                vec![
                    v2,
                    (
                        "sys/fs/cgroup/system.slice/edge.service/memory.max",
                        "536870912\n",
                    ),
                    ("sys/fs/cgroup/system.slice/memory.max", "1073741824\n"),
                    ("sys/fs/cgroup/other.slice/memory.max", "1048576\n"),
                ],
                512,
            ),
            (
                "above",
                vec![
                    v2,
                    (
                        "sys/fs/cgroup/system.slice/edge.service/memory.max",
                        "max\n",
                    ),
                    ("sys/fs/cgroup/system.slice/memory.max", "268435456\n"),
                ],
                256,
            ),
            // The group of a container is at the top there.
            (
                "container",
                vec![away, ("sys/fs/cgroup/memory.max", "134217728\n")],
                128,
            ),
            (
                "first version",
                vec![
                    v1,
                    ("sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n"),
                ],
                256,
            ),
            (
                "first version, unlimited",
                vec![
                    v1,
                    ("sys/fs/cgroup/memory/memory.limit_in_bytes", unlimited),
                ],
                8_192,
            ),
            (
                "broken",
                vec![("proc/self/cgroup", "x\n0:\n:::::\n\n")],
                8_192,
            ),
        ] {
            assert_eq!(usable_with(name, &files), Some(mib * MIB), "{name}");
        }
    }
}
