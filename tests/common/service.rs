//! A host that has the service's user.

use std::path::Path;
use std::process::{Command, Output};

use super::print_skip;

/// The uid and gid of the service.
pub(crate) const SERVICE: u32 = 4243;

/// Runs a script, with `folder` as `$1`, where `/etc` contains little but the service's user, who is also in the
/// group `secrets` (4244). Returns `None`, and prints that the test is skipped, where this is impossible.
pub(crate) fn with_service_user(folder: &Path, script: &str) -> Option<Output> {
    let etc = format!(
        "exec 3< /etc/ssl/certs/ca-certificates.crt && \
         mount -t tmpfs -o mode=755 none /etc && mkdir -p /etc/ssl/certs && \
         cat <&3 > /etc/ssl/certs/ca-certificates.crt && \
         printf 'root:x:0:0::/:/bin/sh\\ndomo-token:x:{SERVICE}:{SERVICE}::/:/bin/sh\\n' > /etc/passwd && \
         printf 'domo-token:x:{SERVICE}:\\nsecrets:x:4244:domo-token\\n' > /etc/group && echo READY && "
    );
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", &(etc + script), "sh"])
        .arg(folder);
    let output = command.output().ok()?;
    let is_there = output.stdout.starts_with(b"READY");
    if !is_there {
        print_skip("no mount namespace can be made here");
    }
    is_there.then_some(output)
}
