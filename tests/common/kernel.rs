//! Kernels that lack a feature, simulated by seccomp. Each constant starts a command line that ends with the
//! program to run.

/// Makes a system call fail with an error if one argument has a certain value.
const SECCOMP_FILTER: &str = r#"
import ctypes, os, platform, struct, sys
x86_64, aarch64, place, number, error = map(int, sys.argv[1:6])
call = {"x86_64": x86_64, "aarch64": aarch64}[platform.machine()]
load, equal, give = 0x20, 0x15, 0x06
program = [
    (load, 0, 0, 0), (equal, 0, 3, call),
    (load, 0, 0, 16 + 8 * place), (equal, 0, 1, number),
    (give, 0, 0, 0x00050000 | error), (give, 0, 0, 0x7fff0000),
]
code = b"".join(struct.pack("HBBI", *step) for step in program)
buffer = ctypes.create_string_buffer(code, len(code))
filter = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.c_char_p(filter), 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execv(sys.argv[6], sys.argv[6:])
"#;

/// The system call by its numbers on x86-64 and aarch64, the position and value of the argument, and the error.
const fn failing(call: [&'static str; 5]) -> [&'static str; 8] {
    let [x86_64, aarch64, position, value, error] = call;
    let filter = SECCOMP_FILTER;
    [
        "python3", "-c", filter, x86_64, aarch64, position, value, error,
    ]
}

/// A kernel before Linux 6.5: `getsockopt(SO_PEERPIDFD)` fails with `ENOPROTOOPT`.
pub(crate) const WITHOUT_PEER_PIDFD: [&str; 8] = failing(["55", "209", "2", "77", "92"]);

/// A kernel that does not permit `prctl(PR_SET_DUMPABLE)`: it fails with `EPERM`.
pub(crate) const WITHOUT_SET_DUMPABLE: [&str; 8] = failing(["157", "167", "0", "4", "1"]);

/// Kernels without `RENAME_NOREPLACE` and `RENAME_EXCHANGE`, as on network file systems: `renameat2` fails with
/// `EINVAL`.
pub(crate) const WITHOUT_NOREPLACE: [&str; 8] = failing(["316", "276", "4", "1", "22"]);
pub(crate) const WITHOUT_EXCHANGE: [&str; 8] = failing(["316", "276", "4", "2", "22"]);
