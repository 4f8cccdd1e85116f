//! Detects a forked child.

/// The process that created a value which a forked child must not use.
///
/// The process id alone does not identify a process: the first process of each PID namespace has the id 1, and the
/// kernel reuses ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessIdentity {
    id: u32,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    kernel: linux::Identity,
}

impl ProcessIdentity {
    pub(crate) fn current() -> Self {
        Self {
            id: std::process::id(),
            #[cfg(any(target_os = "linux", target_os = "android"))]
            kernel: linux::Identity::current(),
        }
    }

    /// Returns whether this process is the same one. What can't be determined now counts as unchanged.
    pub(crate) fn is_current(self) -> bool {
        self.id == std::process::id() && self.is_same_in_kernel()
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn is_same_in_kernel(self) -> bool {
        self.kernel.is_current()
    }

    /// Other systems have no PID namespaces; the process id alone is compared.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    #[expect(clippy::unused_self, reason = "the same interface everywhere")]
    fn is_same_in_kernel(self) -> bool {
        true
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use rustix::fs::{fstat, fstatfs};
    use rustix::process::{PidfdFlags, getpid, pidfd_open};

    /// `PID_FS_MAGIC`: each process has its own file there, whose inode number is never reused.
    const PIDFS: i128 = 0x5049_4446;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Identity {
        /// The inode number of the PID namespace.
        namespace: Option<u64>,
        instance: Option<Instance>,
    }

    /// What distinguishes two processes with the same id.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Instance {
        /// The inode number in pidfs, from Linux 6.9 on.
        Inode(u64),
        /// When the process started, in clock ticks after boot.
        Start(u64),
    }

    impl Identity {
        pub(super) fn current() -> Self {
            let inode = inode().map(Instance::Inode);
            Self {
                namespace: namespace(),
                instance: inode.or_else(|| start().map(Instance::Start)),
            }
        }

        pub(super) fn is_current(&self) -> bool {
            let same_instance = match self.instance {
                Some(Instance::Inode(known)) => match inode() {
                    // The inode number alone identifies the process.
                    Some(now) => return now == known,
                    None => true,
                },
                Some(Instance::Start(known)) => is_same(known, start()),
                None => true,
            };
            same_instance
                && self
                    .namespace
                    .is_none_or(|known| is_same(known, namespace()))
        }
    }

    fn is_same(known: u64, now: Option<u64>) -> bool {
        now.is_none_or(|now| now == known)
    }

    fn namespace() -> Option<u64> {
        fs::metadata("/proc/self/ns/pid")
            .ok()
            .map(|stat| stat.ino())
    }

    fn inode() -> Option<u64> {
        let descriptor = pidfd_open(getpid(), PidfdFlags::empty()).ok()?;
        let is_pidfs = i128::from(fstatfs(&descriptor).ok()?.f_type) == PIDFS;
        let stat = fstat(&descriptor).ok().filter(|_| is_pidfs)?;
        Some(stat.st_ino)
    }

    /// Field 22 of `/proc/self/stat` (proc(5)). The command's name before it may hold anything, so the
    /// last parenthesis counts.
    fn start() -> Option<u64> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        fields.split_whitespace().nth(19)?.parse().ok()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn identity_differs_from_that_of_a_process_with_another_instance_or_namespace() {
            let ours = Identity::current();
            assert!(ours.is_current() && ours.instance.is_some());
            // As before Linux 6.9.
            let started = Identity {
                namespace: namespace(),
                instance: start().map(Instance::Start),
            };
            assert!(started.is_current());
            assert!(started.namespace.is_some() && started.instance.is_some());
            let others = [
                Identity {
                    namespace: Some(0),
                    ..started
                },
                Identity {
                    instance: Some(Instance::Start(0)),
                    ..started
                },
                Identity {
                    instance: Some(Instance::Inode(0)),
                    ..ours
                },
            ];
            let is_known = [true, true, inode().is_some()];
            for (other, known) in others.iter().zip(is_known) {
                assert_eq!(other.is_current(), !known, "{other:?}");
            }
        }
    }
}
