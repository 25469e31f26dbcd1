"""What these tests need of the machine that they run on: programs, and the Debian packages that have them."""

import os
import shutil
import subprocess
import tempfile

PROGRAMS = {
    "cargo": "cargo (or rustup)",
    "debootstrap": "debootstrap",
    "dnsmasq": "dnsmasq-base",
    "grub-mkrescue": "grub-common",
    "ip": "iproute2",
    "mcopy": "mtools",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mkfs.xfs": "xfsprogs",
    "qemu-system-x86_64": "qemu-system-x86",
    "sfdisk": "fdisk",
    "unshare": "util-linux",
    "xorriso": "xorriso",
}
FIRMWARE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
VARIABLES = "/usr/share/OVMF/OVMF_VARS_4M.fd"
EFI_LOADER = "/usr/lib/ipxe/snponly.efi"
FILES = {
    FIRMWARE: "ovmf",
    VARIABLES: "ovmf",
    EFI_LOADER: "ipxe",
    "/usr/lib/ipxe/qemu/pxe-virtio.rom": "ipxe-qemu",
    "/usr/lib/grub/i386-pc/modinfo.sh": "grub-pc-bin",
    "/usr/lib/grub/x86_64-efi/modinfo.sh": "grub-efi-amd64-bin",
}

# A boot sector that ends QEMU: mov dx, 0xf4; mov al, 1; out dx, al; hlt.
SECTOR = bytes.fromhex("baf400b001eef4").ljust(510, b"\0") + b"\x55\xaa"
SECTOR_STATUS = 3


def missing():
    """The packages that are missing, and why these tests cannot run here otherwise, as sentences."""
    packages = {package for program, package in PROGRAMS.items() if not shutil.which(program)}
    packages |= {package for file, package in FILES.items() if not find(file)}
    said = [f"packages are missing: apt install {' '.join(sorted(packages))}"] if packages else []
    if os.geteuid() != 0:
        said.append("they mount images and make network cards: run them as root")
    return said


def find(file):
    """Where a file is; a QEMU of another origin has the network's boot code in a directory of its own."""
    places = [file, file.replace("/usr/lib/ipxe/qemu/pxe-", "/usr/share/qemu/pxe-")]
    return next((place for place in places if os.path.exists(place)), None)


def accelerator():
    """KVM where it works, which is not wherever it is; otherwise QEMU's own translation, which always does."""
    if os.path.exists("/dev/kvm") and os.environ.get("KA_VM_KVM") != "0":
        with tempfile.NamedTemporaryFile() as sector:
            sector.write(SECTOR)
            sector.flush()
            command = [
                *("qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-m", "16", "-display", "none", "-nodefaults"),
                *("-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-no-reboot"),
                *("-drive", f"format=raw,snapshot=on,file={sector.name}"),
            ]
            try:
                ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)
                if ended.returncode == SECTOR_STATUS:
                    return ["-accel", "kvm", "-cpu", "host"]
            except subprocess.TimeoutExpired:
                pass
    return ["-accel", "tcg,thread=multi", "-cpu", "qemu64"]
