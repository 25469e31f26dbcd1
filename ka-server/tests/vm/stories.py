"""What must hold: each story makes clones of a golden node, and claims of them what an admin wants to rely on."""

import os
import re
import subprocess
import time
import urllib.request

import golden
import trees
from lab import OWN, PATIENT, RUN, SESSION, ready
from machine import Failure

READY_S = 600
CLONES_S = 1800
# The firmware, the loader and the kernel of a machine that is translated.
JOINS_S = 600

# What the report of `ka-d clone` says that clones have otherwise, and the times of the directories of that.
INTENDED = {"etc": "time", "etc/machine-id": "all", "var/lib/dbus": "time", "var/lib/dbus/machine-id": "all"}
# The directory that the EFI system partition hides is made anew.
INTENDED["boot/efi"] = "time"
# Of which session it is a clone; what else the golden node keeps there is not cloned.
INTENDED |= {"etc/ka": "all", "etc/ka/clone": "all"}
# What a system that runs writes itself.
RUNNING = {
    "etc/.pwd.lock": "all",
    "etc/.updated": "all",
    "etc/resolv.conf": "all",
    "tmp*": "all",
    "var": "time",
    "var/.updated": "all",
    "var/cache*": "all",
    "var/lib/dbus": "all",
    "var/lib/systemd*": "all",
    "var/lib/private*": "all",
    "var/log*": "all",
    "var/tmp*": "all",
    "root": "time",
    "home": "time",
    "srv/tricky/socket": "all",
}


# What a golden node has that `ka-d` touches while it runs.
STATE = ("findmnt -rno TARGET,SOURCE,FSTYPE | sort; losetup --list --noheadings; "
         "btrfs subvolume list / | sed 's/ gen [0-9]*//'; "
         "systemctl list-units --type=timer --state=active --plain --no-legend | cut -d' ' -f1 | sort; "
         "systemd-inhibit --list --no-legend --no-pager; pgrep -a '^(ka-d|tar)$'; ls -A /run/ka/* 2>/dev/null")
TIMER = "apt-daily.timer"


class Claims:
    """What was claimed, whether it held, and how long that took."""

    def __init__(self):
        self.lines, self.failed = [], False

    def __call__(self, text, goes_on=False):
        return Claim(self, text, goes_on)


class Claim:
    """One of them, as a block: it holds unless the block fails, after which the story may go on."""

    def __init__(self, claims, text, goes_on):
        self.claims, self.text, self.goes_on = claims, text, goes_on

    def __enter__(self):
        print(f"... {self.text}", flush=True)
        self.began = time.monotonic()

    def __exit__(self, kind, error, _):
        word = "FAIL" if kind else "PASS"
        self.claims.failed |= kind is not None
        line = f"{word} {time.monotonic() - self.began:5.0f} s  {self.text}"
        self.claims.lines.append(line)
        print(line + (f": {error}" if error else ""), flush=True)
        if not isinstance(error, Failure):
            return False
        error.said = True
        return self.goes_on


def bios(lab, claim):
    """Two nodes by PXE and BIOS, from an image; one disk is as large as the golden one, one is larger."""
    lab.rescue()
    image = golden.image(lab, "bios")
    nodes = [lab.node("same", golden.SIZE_MIB), lab.node("larger", 2 * golden.SIZE_MIB)]
    with claim("bios: two nodes that started by PXE become clones of an image, one on a larger disk"):
        served = lab.clone_image(image, "-n", "2", "--flexible")
        for node in nodes:
            node.start(network=True)
        joined(nodes)
        finished(lab, served, nodes)
    check(lab, claim, "bios", nodes, INTENDED)


def uefi(lab, claim):
    """The same by UEFI, from a golden node that runs."""
    live(lab, claim, "uefi", [lab.node(n, s, uefi=True) for n, s in (("same", golden.SIZE_MIB), ("larger", 4096))])


def btrfs(lab, claim):
    """From a disc, of subvolumes, of which the golden node takes snapshots meanwhile."""
    nodes = [lab.node("same", golden.SIZE_MIB), lab.node("larger", 4096)]
    live(lab, claim, "btrfs", nodes, disc=lab.rescue())


def hardware(lab, claim):
    """A golden node on virtio alone, clones on AHCI and on NVMe with another card: their initramfs is made anew."""
    nodes = [
        lab.node("ahci", golden.SIZE_MIB, disk="ahci", card="e1000"),
        lab.node("nvme", golden.SIZE_MIB, disk="nvme", card="e1000"),
    ]
    changed = {"boot": "time", "boot/initrd.img-*": "all", "var/lib/initramfs-tools*": "all"}
    # The drivers that are named there stay with the clone's next initramfs.
    changed |= {"etc/initramfs-tools": "time", "etc/initramfs-tools/modules": "all"}
    live(lab, claim, "bios", nodes, story="hardware", expected=changed)


def grub(lab, claim):
    """The steps of 2001: the disk becomes a desc, two nodes get it, and their own tools install the loader."""
    nodes = [lab.node("one", golden.SIZE_MIB), lab.node("two", 2 * golden.SIZE_MIB)]
    live(lab, claim, "bios", nodes, f"-p vda {RUN}/desc -r grub", story="grub", expected={"boot/grub*": "all"},
         before=f"{RUN}/ka-desc capture /dev/vda --flexible >{RUN}/desc")


def readme(lab, claim):
    """README's way to clone, word by word: on a golden node that runs, for two nodes instead of thirty."""
    look, rescue, clone = commands()
    golden.image(lab, "bios")
    with claim("readme: the golden node is up"):
        machine = lab.golden_node("bios", READY_S, *OWN)
        do(machine, f"PATH={RUN}:$PATH")
        do(machine, look)
    with claim(f"readme: `{rescue}` writes and prints what two nodes boot by PXE"):
        status, said = machine.run(rescue, CLONES_S)
        if status != 0:
            raise Failure(f"status {status}:\n{said}")
        folder = rescue.split()[-1]
        do(machine, f"busybox httpd -h {folder}")
        _, address = machine.run("ip -4 -o address show scope global", READY_S)
        address = re.search(r"inet (10\.79[0-9.]+)/", address).group(1)
        for name in ("vmlinuz", "initrd"):
            with urllib.request.urlopen(f"http://{address}/{name}") as file:
                lab.offer(name, file.read())
        # The words that make its end seen here are what an admin would add for a serial console.
        lab.offer_script(said, " console=ttyS0 ka.then=poweroff")
    nodes = [lab.node("same", golden.SIZE_MIB), lab.node("larger", 2 * golden.SIZE_MIB)]
    clone = clone.replace("-n 30", f"-n {len(nodes)}")
    with claim(f"readme: `{clone}` makes clones of them, without any other word"):
        serve(machine, clone, nodes)
    changed = {"srv": "time", "srv/tftp": "all"}
    check(lab, claim, "readme", nodes, INTENDED | RUNNING | changed, variant="bios")
    with claim("readme: they have no key of the golden node's"):
        for node in nodes:
            with trees.Disk(lab, node.image, "bios") as disk:
                own = [path for path in disk.files() if path.startswith((b"etc/ka/", b"srv/tftp/"))]
            if own != [b"etc/ka/clone"]:
                raise Failure(f"{node.name} has {own}")


def commands():
    """What README's section on cloning says to type, but for building the programs."""
    with open(os.path.join(os.path.dirname(__file__), "../../../README.md")) as file:
        section = file.read().split("\n## Clone a machine\n")[1]
    lines = re.search(r"(?m)(^    .+\n)+", section).group().splitlines()
    typed = [line.split(" #")[0].strip() for line in lines]
    if not typed[0].startswith("cargo static && PATH=") or len(typed) != 4:
        raise Failure(f"README's way to clone is {typed}, which this story does not know")
    return typed[1:]


def death(lab, claim):
    """One of three nodes loses its power while the files come; the others become clones."""
    lab.rescue()
    image = golden.image(lab, "bios")
    nodes = [lab.node(name, golden.SIZE_MIB) for name in ("first", "second", "third")]
    with claim("death: one of three nodes dies while the files come, and the other two become clones"):
        served = lab.clone_image(image, "-n", "3", "--flexible")
        for node in nodes:
            node.start(network=True)
        joined(nodes)
        dead = nodes.pop(1)
        dead.wait(r"[2-6]\d %", CLONES_S)
        dead.kill()
        finished(lab, served, nodes, status=7)
    check(lab, claim, "death", nodes, INTENDED, variant="bios")


def disks(lab, claim):
    """Nodes where it is not clear which disk is meant, or where it is a stick, join nothing; the other is a clone."""
    lab.rescue()
    image = golden.image(lab, "bios")
    good = lab.node("good", golden.SIZE_MIB)
    two = lab.node("two", golden.SIZE_MIB, second=lab.empty("second", golden.SIZE_MIB))
    stick = lab.node("stick", golden.SIZE_MIB, disk="usb")
    with claim("disks: a node with two disks and one with a stick do not join, and the third one is a clone"):
        served = lab.clone_image(image, "-n", "1", "--flexible")
        two.start(network=True)
        two.wait("which disk is meant", JOINS_S)
        two.wait("its disk was not touched", READY_S)
        stick.start(network=True)
        stick.wait("no disk that could be meant but these", JOINS_S)
        stick.wait("its disk was not touched", READY_S)
        good.start(network=True)
        joined([good])
        finished(lab, served, [good])
        for written in (two.image, two.second, stick.image):
            if os.stat(written).st_blocks:
                raise Failure(f"{written} was written")
    check(lab, claim, "disks", [good], INTENDED, variant="bios")


def interrupted(lab, claim):
    """A golden node on btrfs is told to stop, or killed, while it waits and while files go; it is as it was."""
    lab.rescue()
    with claim("interrupted: the golden node is up"):
        machine = lab.golden_node("btrfs", READY_S)
        do(machine, f"systemctl unmask {TIMER} && systemctl start {TIMER}")
        before = state(machine)
    nodes = [lab.node(name, golden.SIZE_MIB) for name in ("first", "second")]
    serve = (f"{RUN}/ka-d clone -n 1 -s {SESSION} --flexible --identity {RUN}/identity --key-file {RUN}/key "
             f"--log-dir {RUN}/logs {' '.join(PATIENT)} --rate 2M >{RUN}/out 2>&1 & {until('it waits for')}")
    for signal, node in (("INT", None), ("TERM", nodes[0]), ("KILL", nodes[1])):
        when = "while files go" if node else "while it waits for nodes"
        with claim(f"interrupted: by SIG{signal} {when}, the golden node is as it was"):
            do(machine, serve)
            if node:
                node.start(network=True)
                do(machine, until("streaming"))
                if " path .ka-d-snapshots/" not in state(machine):
                    raise Failure(f"there is no snapshot: {state(machine)}")
            if TIMER in state(machine):
                raise Failure(f"{TIMER} runs meanwhile")
            machine.run(f"kill -{signal} %%; wait %%", READY_S)
            if signal == "KILL":
                # What it has left is for the next one.
                do(machine, serve)
                machine.run("kill -INT %%; wait %%", READY_S)
            if (after := state(machine)) != before:
                raise Failure(f"before:\n{before}\nafter:\n{after}")
            if node:
                node.kill()


def do(machine, command):
    """Runs a command on a golden node; it must end well."""
    status, said = machine.run(command, READY_S)
    if status != 0:
        raise Failure(f"`{command}` ended with status {status}: {said}")


def until(words):
    """A command that waits until `ka-d` has said this."""
    return f"until grep -q '{words}' {RUN}/out; do sleep 0.2; done"


def state(machine):
    """What is mounted, attached and running on a golden node."""
    _, said = machine.run(f"echo KA-''STATE; {STATE}", READY_S)
    return said.split("KA-STATE\n")[-1]


def live(lab, claim, variant, nodes, words="--flexible", *, story=None, disc=None, expected=None, before="true"):
    """Clones of a golden node that runs."""
    story = story or variant
    lab.rescue()
    golden.image(lab, variant)
    with claim(f"{story}: the golden node is up"):
        machine = lab.golden_node(variant, READY_S)
        do(machine, before)
    how = "from a disc" if disc else "by PXE"
    with claim(f"{story}: {len(nodes)} nodes that started {how} become clones of it as it runs"):
        command = f"{RUN}/ka-d clone -n {len(nodes)} -s {SESSION} --identity {RUN}/identity --key-file {RUN}/key"
        serve(machine, f"{command} --log-dir {RUN}/logs {' '.join(PATIENT)} {words}", nodes, disc)
    check(lab, claim, story, nodes, INTENDED | RUNNING | (expected or {}), variant=variant)


def serve(machine, command, nodes, disc=None):
    """Runs `ka-d clone` on a golden node until all nodes are clones, and have powered themselves off."""
    machine.type(f"{command}; echo KA-''ENDED=$?")
    if machine.wait(r"it waits for \d+ node|KA-ENDED=", READY_S).group().startswith("KA"):
        raise Failure(f"ka-d clone ended at once:\n{machine.text[-3000:]}")
    for node in nodes:
        node.start(disc=disc, network=not disc)
    joined(nodes)
    status = int(machine.wait(r"KA-ENDED=(\d+)", CLONES_S).group(1))
    if status != 0:
        raise Failure(f"ka-d clone ended with status {status}:\n{machine.text[-3000:]}")
    for node in nodes:
        node.ended(120)
    machine.kill()


def joined(nodes):
    """Waits until all of them are in the session."""
    for node in nodes:
        node.wait("becomes a clone of golden", JOINS_S)


def finished(lab, served, nodes, status=0):
    """Waits until `ka-d clone` has ended as it should, and all nodes have powered themselves off."""
    try:
        served.wait(CLONES_S)
    except subprocess.TimeoutExpired as e:
        raise Failure(f"ka-d clone has not ended after {CLONES_S} s:\n{lab.said('ka-d')[-3000:]}") from e
    if served.returncode != status:
        raise Failure(f"ka-d clone ended with status {served.returncode}:\n{lab.said('ka-d')[-3000:]}")
    for node in nodes:
        node.ended(120)


def check(lab, claim, story, nodes, expected, variant=None):
    """They have the golden node's files, and boot from their own disks."""
    variant = variant or story
    with claim(f"{story}: their files are the golden node's, but for what is meant to differ", goes_on=True):
        with trees.Disk(lab, golden.image(lab, variant), variant) as disk:
            theirs = disk.files()
        for node in nodes:
            with trees.Disk(lab, node.image, variant) as disk:
                found = trees.differences(theirs, disk.files(), expected)
            if found:
                raise Failure(f"{node.name} differs in {len(found)}:\n" + "\n".join(found[:50]))
            print(f"    {node.name}: the same {len(theirs)} files", flush=True)
    with claim(f"{story}: they boot from their own disks, and no unit fails"):
        for node in nodes:
            node.start()
        for node in nodes:
            failed, root = ready(node, READY_S)
            print(f"    {node.name}: up from {root}, {failed} failed units", flush=True)
            if failed:
                with open(node.words, errors="replace") as file:
                    raise Failure(f"{node.name}: {failed} units failed:\n{file.read()}")


ALL = {story.__name__: story for story in (readme, bios, uefi, btrfs, hardware, grub, disks, death, interrupted)}
