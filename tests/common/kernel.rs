//! Kernels that refuse something: the start of a command that goes on with the program to run there.

/// Has the kernel answer a system call, if it has that number among its arguments, with that error.
const REFUSING: &str = r#"
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

/// One that doesn't know `SO_PEERPIDFD`, as before Linux 6.5: `getsockopt` says `ENOPROTOOPT`.
pub(crate) const OLD: [&str; 8] = ["python3", "-c", REFUSING, "55", "209", "2", "77", "92"];

/// One that lets nobody close its memory: `prctl(PR_SET_DUMPABLE)` says `EPERM`.
pub(crate) const OPEN: [&str; 8] = ["python3", "-c", REFUSING, "157", "167", "0", "4", "1"];

/// One that has no rename to a free place, and none that exchanges, as on network file systems:
/// `renameat2` with one of these flags says `EINVAL`.
pub(crate) const WITHOUT_NOREPLACE: [&str; 8] =
    ["python3", "-c", REFUSING, "316", "276", "4", "1", "22"];
pub(crate) const WITHOUT_EXCHANGE: [&str; 8] =
    ["python3", "-c", REFUSING, "316", "276", "4", "2", "22"];
