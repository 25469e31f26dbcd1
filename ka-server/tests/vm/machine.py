"""One virtual machine: QEMU, its serial console, and its end."""

import os
import re
import shutil
import subprocess
import threading
import time

import needs

# What a terminal takes for itself and not for text.
CONTROL = re.compile(r"\x1b(\[[0-9;?=]*[A-Za-z]|\][^\x07]*\x07|[()][A-Za-z0-9]|[=>cM78])")
# When one of these is on the console, nothing more is to be waited for.
HOPELESS = re.compile(r"No bootable device|Shell> |Kernel panic|\(initramfs\) |grub rescue> |Give root password")
SHOWN_CHARS = 2000
MEMORY_MIB = 768

DISKS = {
    "virtio": ["-device", "virtio-blk-pci,drive=disk"],
    "ahci": ["-device", "ahci,id=ahci", "-device", "ide-hd,bus=ahci.0,drive=disk"],
    "nvme": ["-device", "nvme,serial=ka,drive=disk"],
    "usb": ["-device", "qemu-xhci", "-device", "usb-storage,drive=disk"],
}


class Failure(Exception):
    """A claim does not hold; the text says why."""

    said = False


class Machine:
    """A machine: what it is made of, and the QEMU that runs it, if one does."""

    def __init__(self, lab, name, image, *, tap=None, uefi=False, memory_mib=MEMORY_MIB, disk="virtio",
                 card="virtio-net-pci", second=None):
        self.second = second
        self.name, self.image, self.uefi, self.card = name, image, uefi, card
        self.memory_mib, self.disk, self.tap = memory_mib, disk, tap
        self.folder = os.path.join(lab.folder, name)
        self.accelerator = lab.accelerator
        os.makedirs(self.folder, exist_ok=True)
        self.variables = os.path.join(self.folder, "variables.fd")
        shutil.copy(needs.VARIABLES, self.variables)
        self.process = None
        # The second serial port, where nobody logs in: what a system says of itself there is not lost.
        self.words = os.path.join(self.folder, "words.log")
        lab.machines.append(self)

    def start(self, *, disc=None, network=False, kernel=None, keep=True):
        """Powers it on: from a disc, from the network, from a kernel and initrd with a command line, or from its disk,
        whose changes are kept or forgotten."""
        first = lambda yes, then: f",bootindex={0 if yes else then}"
        args = ["qemu-system-x86_64", "-name", self.name, *self.accelerator, "-machine", "pc,graphics=off"]
        args += ["-m", str(self.memory_mib), "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"]
        args += ["-serial", f"file:{self.words}", "-device", "virtio-rng-pci", "-no-reboot"]
        if self.uefi:
            args += ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={needs.FIRMWARE}"]
            args += ["-drive", f"if=pflash,format=raw,unit=1,file={self.variables}"]
        snapshot = "off" if keep else "on"
        args += ["-drive", f"if=none,id=disk,format=raw,cache=unsafe,snapshot={snapshot},file={self.image}"]
        device = list(DISKS[self.disk])
        if not kernel:
            device[-1] += first(not (disc or network), 2)
        args += device
        if self.second:
            args += ["-drive", f"if=none,id=second,format=raw,cache=unsafe,file={self.second}"]
            args += ["-device", "virtio-blk-pci,drive=second"]
        if self.tap:
            name, address = self.tap
            # Without its boot code, a card boots nothing.
            boots = first(True, 0) if network else ",romfile="
            args += ["-netdev", f"tap,id=net,ifname={name},script=no,downscript=no"]
            args += ["-device", f"{self.card},netdev=net,mac={address}{boots}"]
        if disc:
            args += ["-drive", f"if=none,id=disc,media=cdrom,readonly=on,format=raw,file={disc}"]
            args += ["-device", "ide-cd,drive=disc" + first(True, 0)]
        if kernel:
            file, initrd, words = kernel
            args += ["-kernel", file, "-initrd", initrd, "-append", words]
        self.text, self.seen, self.news = "", 0, threading.Condition()
        # What it said when it ran before is no news.
        open(self.words, "w").close()
        self.process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()

    def _read(self, process):
        with open(os.path.join(self.folder, "console.log"), "ab") as log:
            while data := os.read(process.stdout.fileno(), 65536):
                log.write(data)
                log.flush()
                with self.news:
                    self.text = CONTROL.sub("", self.text + data.decode(errors="replace").replace("\r", ""))
                    self.news.notify_all()
        process.wait()
        with self.news:
            self.news.notify_all()

    def wait(self, pattern, limit_s, anywhere=False):
        """Waits until something on its console is such, behind what was waited for before, or anywhere."""
        end = time.monotonic() + limit_s
        with self.news:
            while True:
                found = re.compile(pattern).search(self.text, 0 if anywhere else self.seen)
                if found:
                    self.seen = max(self.seen, found.end())
                    return found
                tail = self.text[-SHOWN_CHARS:]
                if HOPELESS.search(self.text, self.seen) or self.process.poll() is not None:
                    raise Failure(f"{self.name} gave up before /{pattern}/; its console ends with\n{tail}")
                if time.monotonic() > end:
                    raise Failure(f"{self.name}: {limit_s} s without /{pattern}/; its console ends with\n{tail}")
                self.news.wait(1)

    def said(self, pattern, limit_s):
        """Waits until something on its second serial port is such, all of its line."""
        end = time.monotonic() + limit_s
        while True:
            with open(self.words, errors="replace") as file:
                text = file.read().replace("\r", "")
            if found := re.search(pattern + "\n", text):
                return found
            tail = (text + self.text)[-SHOWN_CHARS:]
            if HOPELESS.search(self.text, self.seen) or self.process.poll() is not None:
                raise Failure(f"{self.name} gave up before it said /{pattern}/; its console ends with\n{tail}")
            if time.monotonic() > end:
                raise Failure(f"{self.name} has not said /{pattern}/ in {limit_s} s; its console ends with\n{tail}")
            with self.news:
                self.news.wait(1)

    def run(self, command, limit_s):
        """Runs a command in the shell on its console; gives its status and what was said."""
        start = self.seen
        # So that what is typed is not taken for the answer.
        self.type(f"{command}; echo KA-''STATUS=$?")
        found = self.wait(r"KA-STATUS=(\d+)\n", limit_s)
        return int(found.group(1)), self.text[start : found.start()]

    def type(self, line):
        """Types a line on its console."""
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def ended(self, limit_s):
        """Waits until it has powered itself off."""
        try:
            self.process.wait(limit_s)
        except subprocess.TimeoutExpired as e:
            raise Failure(f"{self.name} runs on; its console ends with\n{self.text[-SHOWN_CHARS:]}") from e

    def kill(self):
        """Pulls its plug."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
