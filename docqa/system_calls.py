"""Numbers of the system calls that `docqa.seccomp` names, as libseccomp resolves them.

A call is written `name:x86-64:arm64`; the older ones are not there on arm64.
"""

from __future__ import annotations

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h

# What the calls of a group are for: sockets; rings, which do what other calls do, unseen; other
# processes; changes to files; changes to the system. Those of the last group are looked at one by
# one.
_TABLE: dict[str, str] = {
    "network": """
        socket:41:198 socketpair:53:199 connect:42:203 bind:49:200 listen:50:201
        accept:43:202 accept4:288:242 sendto:44:206 sendmsg:46:211 sendmmsg:307:269
    """,
    "ring": """
        io_uring_setup:425:425 io_uring_enter:426:426 io_uring_register:427:427
    """,
    "process": """
        execve:59:221 execveat:322:281 fork:57:- vfork:58:- ptrace:101:117
        process_vm_readv:310:270 process_vm_writev:311:271 kill:62:129 tkill:200:130
        rt_sigqueueinfo:129:138 rt_tgsigqueueinfo:297:240 pidfd_open:434:434
        pidfd_getfd:438:438 pidfd_send_signal:424:424 setrlimit:160:164
    """,
    "files": """
        creat:85:- unlink:87:- unlinkat:263:35 rename:82:- renameat:264:38
        renameat2:316:276 link:86:- linkat:265:37 symlink:88:- symlinkat:266:36 mkdir:83:-
        mkdirat:258:34 rmdir:84:- mknod:133:- mknodat:259:33 chmod:90:- fchmod:91:52
        fchmodat:268:53 fchmodat2:452:452 chown:92:- fchown:93:55 lchown:94:-
        fchownat:260:54 truncate:76:45 utime:132:- utimes:235:- utimensat:280:88
        futimesat:261:- setxattr:188:5 lsetxattr:189:6 fsetxattr:190:7 removexattr:197:14
        lremovexattr:198:15 fremovexattr:199:16
    """,
    "system": """
        mount:165:40 umount2:166:39 pivot_root:155:41 chroot:161:51 unshare:272:97
        setns:308:268 fsopen:430:430 fsmount:432:432 move_mount:429:429 open_tree:428:428
        bpf:321:280 perf_event_open:298:241 userfaultfd:323:282 keyctl:250:219
        add_key:248:217 request_key:249:218 init_module:175:105 finit_module:313:273
        delete_module:176:106 kexec_load:246:104 kexec_file_load:320:294 reboot:169:142
        swapon:167:224 swapoff:168:225 acct:163:89 iopl:172:- ioperm:173:-
        open_by_handle_at:304:265 fanotify_init:300:262
    """,
    "single": """
        clone:56:220 clone3:435:435 tgkill:234:131 open:2:- openat:257:56 openat2:437:437
        prlimit64:302:261 seccomp:317:277
    """,
}


def numbers(machine: str) -> dict[str, dict[str, int]]:
    """Return group → name → number for a machine of ARCHITECTURES."""
    column = 1 + list(ARCHITECTURES).index(machine)
    found: dict[str, dict[str, int]] = {}
    for group, text in _TABLE.items():
        calls = [call.split(":") for call in text.split()]
        found[group] = {call[0]: int(call[column]) for call in calls if call[column] != "-"}
    return found
