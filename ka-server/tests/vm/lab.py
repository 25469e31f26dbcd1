"""A small network of machines: a bridge, an address that DHCP and PXE come from, and the golden node's programs.

It is in namespaces of its own, for mounts, networks and processes, which take all of it with them when they end.
"""

import functools
import http.server
import os
import re
import shutil
import subprocess
import threading

import golden
import needs
from machine import Failure, Machine

SERVER = "10.79.0.1"
RANGE = "10.79.0.50,10.79.0.200,255.255.255.0,1h"
SESSION = "vm"
# Where the golden node has our programs, in memory: nothing of it is cloned.
RUN = "/run/ka-vm"
# Translated machines are so slow that some are silent for seconds: who holds the whole stream loses nobody.
# Encryption is most of the work for them; they still need the key.
PATIENT = ["--window", "1200M", "--no-encrypt"]
GOLDEN_MIB = 2560
WORDS = "console=ttyS0 ka.then=poweroff ka.shell=off"
# All that a golden node needs of ours.
OWN = ("ka-d", "ka-d-install", "ka-d-client", "ka-desc")


class Lab:
    """The network, and all that runs in it."""

    def __init__(self, programs, cache):
        self.programs, self.cache = programs, cache
        self.folder = os.path.join(cache, "run")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.offers = os.path.join(self.folder, "offers")
        os.makedirs(self.offers)
        # `ka-d` takes no secret that is where a system is; and this one goes with our namespace.
        golden.run(["mount", "-t", "tmpfs", "offers", self.offers])
        self.machines, self.processes, self.taps = [], [], 0
        self.accelerator = needs.accelerator()
        self.base = golden.base(cache)
        self._network()
        self._answer()

    def program(self, name):
        """Where one of our programs is."""
        return os.path.join(self.programs, name)

    def _network(self):
        ip = lambda *words: golden.run(["ip", *words], capture_output=True)
        ip("link", "set", "lo", "up")
        ip("link", "add", "lan", "type", "bridge", "stp_state", "0", "forward_delay", "0")
        ip("addr", "add", f"{SERVER}/24", "dev", "lan")
        ip("link", "set", "lan", "up")

    def tap(self):
        """A new network card's other end, and the card's address."""
        self.taps += 1
        name = f"tap{self.taps}"
        for words in (f"tuntap add {name} mode tap", f"link set {name} master lan up"):
            golden.run(["ip", *words.split()], capture_output=True)
        return name, f"52:54:00:6b:61:{self.taps:02x}"

    def _answer(self):
        """DHCP, TFTP and HTTP."""
        shutil.copy(needs.EFI_LOADER, self.offers)
        settings = ["port=0", "interface=lan", "bind-interfaces", "dhcp-authoritative", "no-resolv", "no-hosts"]
        settings += ["no-ping"]
        settings += [f"dhcp-range={RANGE}", f"dhcp-leasefile={self.folder}/leases", "dhcp-option=3", "user=root"]
        settings += ["enable-tftp", f"tftp-root={self.offers}", "pid-file", "dhcp-match=set:ipxe,175"]
        settings += [f"dhcp-boot=tag:ipxe,http://{SERVER}/boot.ipxe", "dhcp-match=set:efi,option:client-arch,7"]
        settings += ["dhcp-boot=tag:!ipxe,tag:efi,snponly.efi"]
        file = os.path.join(self.folder, "dnsmasq.conf")
        with open(file, "w") as out:
            out.write("\n".join(settings) + "\n")
        self.spawn("dnsmasq", ["dnsmasq", "--keep-in-foreground", "--log-facility=-", f"--conf-file={file}"])
        handler = functools.partial(Quiet, directory=self.offers)
        server = http.server.ThreadingHTTPServer((SERVER, 80), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def spawn(self, name, command):
        """Starts a program whose output goes to a file of that name."""
        with open(os.path.join(self.folder, f"{name}.log"), "ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def rescue(self):
        """Makes the nodes' rescue system, offers it to them by PXE, and gives its disc. The session's key is in it."""
        at = os.path.join(self.folder, "rescue")
        keys = [os.path.join(self.offers, name) for name in ("identity", "key")]
        if not os.path.exists(at):
            golden.run([self.program("ka-d-server"), "--identity", keys[0], "--make-key", keys[1]], capture_output=True)
            command = [self.program("ka-d"), "rescue", at, "--root", self.base, "--session", SESSION]
            said = golden.run([*command, "--key-file", keys[1], "--append", WORDS, "--iso"], capture_output=True).stdout
            for name in ("vmlinuz", "initrd"):
                shutil.copy(os.path.join(at, name), self.offers)
            self.offer_script(said.decode())
        return os.path.join(at, "rescue.iso")

    def offer(self, name, data):
        """Has nodes that boot by PXE get this by that name."""
        with open(os.path.join(self.offers, name), "wb") as out:
            out.write(data)

    def offer_script(self, said, words=""):
        """Offers the script for iPXE that `ka-d rescue` has printed, as it is, but for more words for the kernel."""
        script = re.search(r"^#!ipxe\n(.+\n)+", said, re.MULTILINE).group()
        script = re.sub(r"(?m)^(kernel .*)$", lambda line: line.group() + words, script)
        self.offer("boot.ipxe", script.replace("${netX/", "${net0/").encode())

    def empty(self, name, size_mib):
        """An image of an empty disk."""
        image = os.path.join(self.folder, f"{name}.img")
        with open(image, "wb") as file:
            file.truncate(size_mib << 20)
        return image

    def node(self, name, size_mib, **how):
        """A machine with an empty disk."""
        return Machine(self, name, self.empty(name, size_mib), tap=self.tap(), **how)

    def clone_image(self, image, *args):
        """Serves an image of a golden node's disk from here, and gives the process."""
        identity, key = (os.path.join(self.offers, name) for name in ("identity", "key"))
        command = [self.program("ka-d"), "clone", "--image", image, "-s", SESSION, "--identity", identity]
        command += ["--key-file", key]
        return self.spawn("ka-d", [*command, "--log-dir", os.path.join(self.folder, "logs"), *PATIENT, *args])

    def golden_node(self, variant, limit_s, *programs):
        """A golden node that runs, from an image that it does not change, with these programs in RUN: ka-d, ka-desc and
        the key unless others are named."""
        for name in OWN:
            shutil.copy(self.program(name), self.offers)
        image, how = golden.image(self, variant), {"uefi": variant == "uefi", "memory_mib": GOLDEN_MIB}
        machine = Machine(self, f"golden-{variant}", image, tap=self.tap(), **how)
        machine.start(keep=False)
        ready(machine, limit_s)
        # Either may be first.
        machine.wait(r"root@golden:.*# ", limit_s, anywhere=True)
        address = "until ip -4 route show | grep -q 10.79.0; do sleep 0.2; done"
        fetch = f"busybox wget -q http://{SERVER}/$f && chmod 700 $f || exit 1"
        fetch = f"for f in {' '.join(programs or ('ka-d', 'ka-desc', 'identity', 'key'))}; do {fetch}; done"
        room = f"mkdir {RUN} && mount -t tmpfs vm {RUN} && cd {RUN}"
        status, said = machine.run(f"({address}; {room} && {fetch})", limit_s)
        if status != 0:
            raise Failure(f"the golden node cannot fetch its programs: {said}")
        return machine

    def said(self, name):
        """What a program wrote."""
        with open(os.path.join(self.folder, f"{name}.log"), errors="replace") as file:
            return file.read()

    def clear(self):
        """Ends the machines and programs of a story, and forgets their disks."""
        for machine in self.machines:
            machine.kill()
        for process in self.processes[1:]:
            process.kill()
            process.wait()
        del self.processes[1:]
        for file in {machine.image for machine in self.machines}:
            if os.path.dirname(file) == self.folder:
                os.unlink(file)
        self.machines.clear()


def ready(machine, limit_s):
    """Waits until a system is up, and gives what it said of itself, the number of failed units first."""
    found = machine.said(r"KA-READY failed=(\d+) root=(\S+)", limit_s)
    return int(found.group(1)), found.group(2)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Files, without a word about each."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass
