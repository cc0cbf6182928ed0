//! How much memory this process may take, as Linux tells it: what the machine has free, what its container allows, and its own
//! limits.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use memory::Bytes;

/// How much memory a run may take, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// The most that it may take; [`u64::MAX`] where nobody says anything.
    pub bytes: Bytes,
    /// Who says it.
    pub from: CeilingOf,
}

impl Ceiling {
    /// Where nobody says anything.
    pub(crate) fn none() -> Self {
        Self { bytes: Bytes(u64::MAX), from: CeilingOf::Nobody }
    }

    /// What a plan that does not fit says, with who says that.
    pub(crate) fn told(&self, error: memory::Error) -> memory::Error {
        match error {
            memory::Error::TooLittle { needed, ceiling, parts, by: _ } => {
                memory::Error::TooLittle { needed, ceiling, parts, by: self.from.to_string() }
            }
            other => other,
        }
    }
}

/// Whose ceiling it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CeilingOf {
    /// The key `device.memory`.
    Config,
    /// What the machine has free.
    Machine,
    /// What the limit of a control group leaves: its folder.
    ControlGroup(PathBuf),
    /// What the process's limit on address space leaves (`ulimit -v`).
    AddressSpace,
    /// What its limit on data leaves (`ulimit -d`).
    Data,
    /// What the driver of the device has free.
    Device,
    /// Nobody's: the system does not say what there is.
    Nobody,
}

impl fmt::Display for CeilingOf {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Config => f.write_str("`memory`"),
            Self::Machine => f.write_str("what the machine has free"),
            Self::ControlGroup(folder) => write!(f, "what the control group {} leaves", folder.display()),
            Self::AddressSpace => f.write_str("what the limit on address space leaves"),
            Self::Data => f.write_str("what the limit on data leaves"),
            Self::Device => f.write_str("what the device has free"),
            Self::Nobody => f.write_str("no limit that the system tells"),
        }
    }
}

/// Memory that can be had now without swapping or being refused; `None` where the system does not say.
pub(crate) fn available() -> Option<Ceiling> {
    of(Path::new("/"))
}

/// The same of a system whose files are under `root`.
fn of(root: &Path) -> Option<Ceiling> {
    let machine = in_kib(&read(root, "proc/meminfo")?, "MemAvailable:")?;
    let container = |folder: PathBuf| Some((left_in(&folder)?, CeilingOf::ControlGroup(folder)));
    let container = containers(root).into_iter().filter_map(container);
    let all = container.chain(own_limits(root)).chain([(machine, CeilingOf::Machine)]);
    // The first of equals.
    let (bytes, from) = all.min_by_key(|(bytes, _)| *bytes)?;
    Some(Ceiling { bytes: Bytes(bytes), from })
}

fn read(root: &Path, file: &str) -> Option<String> {
    fs::read_to_string(root.join(file)).ok()
}

/// The number of a line `key 123 kB`, in bytes.
pub(crate) fn in_kib(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib.saturating_mul(1024))
}

/// What the limits on address space and on data leave to this process (`ulimit -v`, `-d`).
fn own_limits(root: &Path) -> impl Iterator<Item = (u64, CeilingOf)> {
    let limits = read(root, "proc/self/limits").unwrap_or_default();
    let status = read(root, "proc/self/status").unwrap_or_default();
    let pairs =
        [("Max address space", "VmSize:", CeilingOf::AddressSpace), ("Max data size", "VmData:", CeilingOf::Data)];
    pairs.into_iter().filter_map(move |(limit, used, of)| {
        let soft = limits.lines().find_map(|line| line.strip_prefix(limit))?.split_whitespace().next()?;
        Some((soft.parse::<u64>().ok()?.saturating_sub(in_kib(&status, used).unwrap_or(0)), of))
    })
}

/// The folders of this process's memory control groups, from its own up to the mount's top: each may set a limit.
fn containers(root: &Path) -> Vec<PathBuf> {
    let groups = read(root, "proc/self/cgroup").unwrap_or_default();
    let mounts = read(root, "proc/self/mountinfo").unwrap_or_default();
    // `0::/path` is version 2's; `4:memory:/path` version 1's.
    let group = |is_v2: bool| {
        groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let fits =
                if is_v2 { id == "0" && controllers.is_empty() } else { controllers.split(',').any(|c| c == "memory") };
            fits.then(|| path.to_owned())
        })
    };
    let mut folders = Vec::new();
    for line in mounts.lines() {
        // id parent device root mount-point options … - type source options
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let mut after = after.split(' ');
        let (kind, options) = (after.next().unwrap_or_default(), after.nth(1).unwrap_or_default());
        let is_v2 = match kind {
            "cgroup2" => true,
            "cgroup" if options.split(',').any(|option| option == "memory") => false,
            _ => continue,
        };
        let mut before = before.split(' ').skip(3);
        let (Some(top), Some(mount)) = (before.next(), before.next()) else { continue };
        let mount = root.join(mount.trim_start_matches('/'));
        let group = group(is_v2).unwrap_or_default();
        // Inside a container the path may be that of the host, which is not to be seen here.
        let below = group.strip_prefix(top.trim_end_matches('/')).unwrap_or_default().trim_start_matches('/');
        let own = mount.join(below);
        let own = if own.starts_with(&mount) && own.is_dir() { own } else { mount.clone() };
        folders.extend(own.ancestors().take_while(|folder| folder.starts_with(&mount)).map(Path::to_owned));
    }
    folders
}

/// What a control group's limit leaves, if it has one; the file cache that it holds can be had back.
fn left_in(folder: &Path) -> Option<u64> {
    let number = |file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
    let limits = ["memory.max", "memory.high", "memory.limit_in_bytes"];
    let limit = limits.into_iter().filter_map(number).min()?;
    let used = number("memory.current").or_else(|| number("memory.usage_in_bytes")).unwrap_or(0);
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cache: u64 = (stat.lines())
        .filter_map(|line| line.split_once(' '))
        .filter(|(key, _)| matches!(*key, "active_file" | "inactive_file"))
        .filter_map(|(_, value)| value.trim().parse::<u64>().ok())
        .fold(0, u64::saturating_add);
    Some(limit.saturating_sub(used.saturating_sub(cache)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A system of 1,000 MiB with these files.
    fn system(files: &[(&str, &str)]) -> Option<u64> {
        told(files).map(|(mib, _)| mib)
    }

    /// The same, and who says it.
    fn told(files: &[(&str, &str)]) -> Option<(u64, CeilingOf)> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [("proc/meminfo", "MemTotal: 2048000 kB\nMemAvailable: 1024000 kB\n")].iter().chain(files) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        of(root.path()).map(|ceiling| (ceiling.bytes.0 / MIB, ceiling.from))
    }

    const V2: (&str, &str) =
        ("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
    const V1: (&str, &str) = (
        "proc/self/mountinfo",
        "35 30 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n36 30 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
    );

    #[test]
    fn without_limits_it_is_what_the_machine_has_free() {
        assert_eq!(system(&[]), Some(1000));
        assert_eq!(system(&[V2, ("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "max\n")]), Some(1000));
        assert_eq!(system(&[("proc/meminfo", "nothing")]), None);
        let unlimited = "9223372036854771712\n";
        assert_eq!(system(&[V1, ("sys/fs/cgroup/memory/memory.limit_in_bytes", unlimited)]), Some(1000));
    }

    #[test]
    fn a_container_and_all_that_it_is_in_set_limits() {
        let group = ("proc/self/cgroup", "0::/a/b\n");
        let max = |path: &'static str, text: &'static str| (path, text);
        let own = max("sys/fs/cgroup/a/b/memory.max", "524288000\n");
        assert_eq!(system(&[V2, group, own]), Some(500));
        let outer = max("sys/fs/cgroup/a/memory.max", "314572800\n");
        assert_eq!(system(&[V2, group, own, outer]), Some(300));
        let high = max("sys/fs/cgroup/a/b/memory.high", "104857600\n");
        assert_eq!(system(&[V2, group, own, outer, high]), Some(100));
        // what it holds already counts, but for file cache
        let current = max("sys/fs/cgroup/a/b/memory.current", "209715200\n");
        assert_eq!(system(&[V2, group, own, current]), Some(300));
        let stat = max("sys/fs/cgroup/a/b/memory.stat", "anon 1\ninactive_file 104857600\nactive_file 52428800\n");
        assert_eq!(system(&[V2, group, own, current, stat]), Some(450));
    }

    #[test]
    fn the_first_version_of_control_groups_counts_too() {
        let group = ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n");
        let limit = ("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "209715200\n");
        assert_eq!(system(&[V1, group, limit]), Some(200));
        // and inside the container, which sees its own group as the top
        let inside = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "104857600\n");
        assert_eq!(system(&[V1, group, inside]), Some(100));
        let rooted =
            ("proc/self/mountinfo", "36 30 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
        assert_eq!(system(&[rooted, group, inside]), Some(100));
        let up = ("proc/self/cgroup", "4:memory:/../../etc\n");
        assert_eq!(system(&[V1, up, inside]), Some(100));
    }

    #[test]
    fn the_process_s_own_limits_count() {
        let limits = |text: &'static str| ("proc/self/limits", text);
        let status = ("proc/self/status", "Name: forge\nVmSize:   102400 kB\nVmData:    51200 kB\n");
        let space = limits("Max address space         419430400            unlimited            bytes     \n");
        assert_eq!(system(&[space, status]), Some(300));
        let data = limits("Max data size             314572800            unlimited            bytes     \n");
        assert_eq!(system(&[data, status]), Some(250));
        let none = limits("Max data size             unlimited            unlimited            bytes     \n");
        assert_eq!(system(&[none, status]), Some(1000));
    }
}
