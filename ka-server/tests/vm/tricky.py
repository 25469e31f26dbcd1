"""Files that are easily lost when a system is copied."""

import os
import struct

# Rights to use raw sockets, permitted and effective: struct vfs_cap_data of revision 2.
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
# user::rw- user:1000:rwx group::r-- mask::rwx other::r--: entries of a tag, rights, and an id.
NOBODY = 0xFFFFFFFF
ENTRIES = [(1, 6, NOBODY), (2, 7, 1000), (4, 4, NOBODY), (16, 7, NOBODY), (32, 4, NOBODY)]
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in ENTRIES)
NAMES = [b"latin1-\xe9", b"\xff\xfe", b"new\nline", b" lead", b"trail ", b"-rf", b"back\\slash", b"quote'\"`$(x)", b"*?[a]"]
NAMES += [b"n" * 255, b"Case", b"case", b"\x01\x7f", b"\\056"]


def make(folder):
    """Makes them in a new directory."""
    os.makedirs(folder)
    at = lambda name: os.path.join(os.fsencode(folder), name)

    def write(name, data=b"x", mode=0o644):
        with open(at(name), "wb") as file:
            file.write(data)
        os.chmod(at(name), mode)

    os.makedirs(at(b"hard/sub"))
    write(b"hard/a", b"one inode, three names\n")
    os.link(at(b"hard/a"), at(b"hard/b"))
    os.link(at(b"hard/a"), at(b"hard/sub/c"))
    # Longer than the largest number that tar's oldest format can write.
    with open(at(b"sparse"), "wb") as file:
        file.truncate(9 << 30)
        for offset in (0, 1 << 30, (9 << 30) - 4096):
            file.seek(offset)
            file.write(os.urandom(4096))
    write(b"zeros", bytes(1 << 20))
    write(b"empty", b"")
    write(b"random", os.urandom(3 << 20))
    write(b"setuid", mode=0o4755)
    os.link(at(b"setuid"), at(b"hard/setuid"))
    write(b"secret", mode=0)
    for name, mode in ((b"sgid", 0o2775), (b"sticky", 0o1777), (b"closed", 0)):
        os.mkdir(at(name))
        os.chmod(at(name), mode)
    write(b"owner")
    os.chown(at(b"owner"), 3000000000, 4000000000)
    write(b"capable", mode=0o755)
    os.setxattr(at(b"capable"), "security.capability", CAPABILITY)
    write(b"acl")
    os.setxattr(at(b"acl"), "system.posix_acl_access", ACL)
    os.mkdir(at(b"acl-for-new"))
    os.setxattr(at(b"acl-for-new"), "system.posix_acl_default", ACL)
    write(b"xattr")
    for name, value in (("user.binary", bytes(range(256))), ("user.empty", b""), ("trusted.ka", b"root's")):
        os.setxattr(at(b"xattr"), name, value)
    os.mkfifo(at(b"fifo"), 0o620)
    os.mknod(at(b"device"), 0o020600, os.makedev(300, 200000))
    for name, target in ((b"to", b"hard/a"), (b"to-nothing", b"no/such"), (b"to-itself", b"to-itself"), (b"up", b"../" * 9)):
        os.symlink(target, at(name))
    os.mkdir(at(b"names"))
    for name in NAMES:
        write(b"names/" + name, name)
    os.makedirs(at(b"/".join([b"deep", *[b"d" * 200] * 15])))
    for name, time_ns in ((b"t-1960", -315619200 * 10**9 + 5), (b"t-ns", 1234567890123456789), (b"t-2040", 2208988800 * 10**9)):
        write(name)
        os.utime(at(name), ns=(time_ns, time_ns))
