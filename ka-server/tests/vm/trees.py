"""What is on a disk, file by file, and in what two of them differ."""

import fnmatch
import hashlib
import json
import os
import stat
import subprocess

from golden import ESP_PART, PARTS, run

BLOCK = 1 << 20
# How much more or less of a file with holes may be on the disk.
SLACK_BYTES = 256 << 10


class Disk:
    """The tree that is on an image, mounted read-only in this namespace as long as this is used."""

    def __init__(self, lab, image, variant):
        self.image, self.variant = image, variant
        self.root = os.path.join(lab.folder, "look", os.path.basename(image))
        self.mounted = []

    def __enter__(self):
        os.makedirs(self.root, exist_ok=True)
        for number, subvolume, where in PARTS[self.variant]:
            at = os.path.join(self.root, where)
            start, bytes_ = partition(self.image, number)
            # The journals are not replayed: nothing is written.
            options = f"ro,loop,offset={start},sizelimit={bytes_}"
            kind = "btrfs" if self.variant == "btrfs" else "xfs" if (self.variant, where) == ("uefi", "") else "ext4"
            options += {"btrfs": f",subvol={subvolume}", "xfs": ",norecovery,nouuid", "ext4": ",noload"}[kind]
            run(["mount", "-t", kind, "-o", options, self.image, at], capture_output=True)
            self.mounted.append(at)
        return self

    def __exit__(self, *_):
        for at in reversed(self.mounted):
            subprocess.run(["umount", at], check=False)

    def files(self):
        """Everything on it, by path; the EFI system partition's files by name and content alone."""
        found = read(self.root)
        if self.variant in ESP_PART:
            start, _ = partition(self.image, ESP_PART[self.variant])
            at = self.root + "-esp"
            os.makedirs(at, exist_ok=True)
            run(["mcopy", "-s", "-n", "-Q", "-i", f"{self.image}@@{start}", "::*", at], capture_output=True)
            for path, facts in read(at).items():
                if path:
                    found[b"boot/efi/" + path] = {"type": facts["type"], "content": facts.get("content")}
        return found


def partition(image, number):
    """Where a partition is, in bytes, and how long."""
    said = run(["sfdisk", "--json", image], capture_output=True).stdout
    rows = json.loads(said)["partitiontable"]["partitions"]
    row = next(row for row in rows if row["node"].removeprefix(image).lstrip("p") == str(number))
    return row["start"] * 512, row["size"] * 512


def read(root):
    """Everything below a directory, by path: what a copy must have in common with it."""
    found, links = {}, {}
    folders = [b""]
    while folders:
        folder = folders.pop()
        if folder == b"":
            found[b""] = facts(os.fsencode(root), os.lstat(root))
        for entry in os.scandir(os.path.join(os.fsencode(root), folder)):
            path, status = os.path.join(folder, entry.name), entry.stat(follow_symlinks=False)
            found[path] = facts(entry.path, status)
            if stat.S_ISDIR(status.st_mode):
                folders.append(path)
            elif status.st_nlink > 1:
                links.setdefault((status.st_dev, status.st_ino), []).append(path)
    for names in links.values():
        for path in names:
            found[path]["links"] = sorted(names)
    return found


def facts(path, status):
    """What there is to know of a file."""
    kind, own = stat.S_IFMT(status.st_mode), {}
    own["type"], own["mode"] = kind, stat.S_IMODE(status.st_mode)
    own["owner"], own["time"] = (status.st_uid, status.st_gid), status.st_mtime_ns
    names = os.listxattr(path, follow_symlinks=False)
    own["attributes"] = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    if kind == stat.S_IFLNK:
        own["target"] = os.readlink(path)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        own["device"] = status.st_rdev
    elif kind == stat.S_IFREG:
        own["size"], (own["content"], own["data"]) = status.st_size, content(path, status.st_size)
    return own


def content(path, size):
    """The hash of a file, whether zeros are holes in it or not, and how many bytes of it are no hole."""
    hash_, data, at = hashlib.sha256(), 0, 0
    with open(path, "rb", buffering=0) as file:
        while at < size:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            data += end - start
            at = max(at, start - start % BLOCK)
            while at < end:
                block = os.pread(file.fileno(), BLOCK, at)
                if block.strip(b"\0"):
                    hash_.update(b"%d:" % at + block)
                at += BLOCK
    return hash_.digest(), data


def differences(golden, clone, expected):
    """In what they differ, a line each, but for what is expected: paths as patterns, and for each what may differ of
    it, or `all`."""
    said = []
    for path in sorted(golden.keys() | clone.keys()):
        name = os.fsdecode(path)
        fitting = [words for pattern, words in expected.items() if fnmatch.fnmatchcase(name, pattern)]
        allowed = set(" ".join(fitting).split())
        if "all" in allowed:
            continue
        if path not in golden or path not in clone:
            said.append(f"/{name!a}: {'the clone alone' if path in clone else 'the golden node alone'} has it")
            continue
        one, other = golden[path], clone[path]
        for what in sorted((one.keys() | other.keys()) - allowed):
            if what == "data":
                same = abs(one[what] - other[what]) <= SLACK_BYTES + one[what] // 20
            else:
                same = one.get(what) == other.get(what)
            if not same:
                said.append(f"/{name!a}: {what} {one.get(what)!r:.60} there, {other.get(what)!r:.60} here")
    return said
