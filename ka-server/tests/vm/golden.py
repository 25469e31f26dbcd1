"""Golden nodes: a small Debian of our own, and the images of disks that it is on.

The images' tables and file systems are made by ka-desc, and the boot loader by the system itself, in a machine that
starts with a script in the place of its first program.
"""

import glob
import hashlib
import inspect
import os
import shutil
import subprocess

import tricky
from machine import Failure, Machine

SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
PACKAGES = (
    "acl,attr,btrfs-progs,busybox,dbus,dosfstools,e2fsprogs,efibootmgr,fdisk,grub-efi-amd64-bin,grub-pc-bin,"
    "grub2-common,initramfs-tools,iproute2,kmod,linux-image-amd64,procps,systemd-sysv,udev,xfsprogs,zstd"
)
# It has drivers for virtio alone, so a clone on other hardware must get an initramfs of its own.
INITRAMFS = "virtio_pci\nvirtio_blk\next4\nxfs\nbtrfs\ncrc32c_generic\n"

ROOT = "11111111-2222-4333-8444-555555555555"
HOME = "22222222-3333-4444-8555-666666666666"
SWAP = "33333333-4444-4555-8666-777777777777"
ESP = "4B41-4B41"
MACHINE_ID = "0123456789abcdef0123456789abcdef"
SIZE_MIB = 2560

FSTAB_SWAP = f"UUID={SWAP} none swap sw 0 0\n"
FSTAB_HOME = f"UUID={HOME} /home ext4 defaults,nodev 0 2\n"

DESCS = {
    "bios": f"""table mbr
swap 128 label swap uuid {SWAP}
linux 1900 ext4 label root uuid {ROOT} mount / bootable
extended fill
logical linux fill ext4 label home uuid {HOME} mount /home
""",
    # Its EFI system partition is mounted in the machine: a host need not know vfat.
    "uefi": f"""esp 64 uuid {ESP}
linux 1900 xfs label root uuid {ROOT} mount /
swap 128 label swap uuid {SWAP}
linux fill ext4 label home uuid {HOME} mount /home
""",
    "btrfs": f"""bios_boot 1
swap 128 label swap uuid {SWAP}
linux fill btrfs label root uuid {ROOT} options compress=zstd:1
  subvol @rootfs mount /
  subvol @home mount /home
""",
}
FSTABS = {
    "bios": f"UUID={ROOT} / ext4 errors=remount-ro 0 1\n" + FSTAB_HOME + FSTAB_SWAP,
    "uefi": f"UUID={ROOT} / xfs defaults 0 0\nUUID={ESP} /boot/efi vfat umask=0077 0 1\n" + FSTAB_HOME + FSTAB_SWAP,
    "btrfs": f"UUID={ROOT} / btrfs subvol=@rootfs,compress=zstd:1 0 0\nUUID={ROOT} /home btrfs subvol=@home 0 0\n"
    + FSTAB_SWAP,
}
# Where the file systems are: partition, below what of it, and where that is mounted.
PARTS = {
    "bios": [(2, "", ""), (5, "", "home")],
    "uefi": [(2, "", ""), (4, "", "home")],
    "btrfs": [(3, "@rootfs", ""), (3, "@home", "home")],
}
ESP_PART = {"uefi": 1}

EFI = "grub-install --target=x86_64-efi --efi-directory=/boot/efi --no-nvram --no-uefi-secure-boot"
LOADERS = {
    "bios": "grub-install --target=i386-pc /dev/vda",
    "uefi": f"{EFI} --bootloader-id=debian && {EFI} --removable",
    "btrfs": "grub-install --target=i386-pc /dev/vda",
}
FIRST = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -o remount,rw / && mount -a && {loader} && update-grub || exit 1
for at in /boot/efi /home; do ! mountpoint -q $at || umount $at; done
mount -o remount,ro / && echo KA-FIRST-OK
poweroff -ff
"""

SETTINGS = {
    "etc/default/grub": 'GRUB_TIMEOUT=0\nGRUB_DISTRIBUTOR=Debian\nGRUB_CMDLINE_LINUX_DEFAULT=""\n'
    'GRUB_CMDLINE_LINUX="console=ttyS0"\nGRUB_TERMINAL=serial\nGRUB_DISABLE_OS_PROBER=true\n',
    "etc/hostname": "golden\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 golden\n",
    "etc/initramfs-tools/conf.d/ka": "MODULES=list\nRESUME=none\n",
    "etc/systemd/network/lan.network": "[Match]\nType=ether\n[Network]\nDHCP=ipv4\n",
    "etc/systemd/system/serial-getty@ttyS0.service.d/root.conf": "[Service]\nExecStart=\n"
    "ExecStart=-/sbin/agetty --autologin root --keep-baud 115200 - dumb\n",
    # Not on the console: who logs in there begins with a hangup, and what was just said is lost.
    "etc/systemd/system/ready.service": """[Unit]
Description=Says on the second serial port that it is up
After=getty.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'systemctl list-units --failed --no-legend --plain; \
echo "KA-READY failed=$(systemctl list-units --failed --no-legend | wc -l) root=$(findmnt -no SOURCE /)"'
StandardOutput=tty
TTYPath=/dev/ttyS1
[Install]
WantedBy=multi-user.target
""",
}
WANTED = {"ready": "../ready.service", "systemd-networkd": "/lib/systemd/system/systemd-networkd.service"}
NOT_WANTED = ("apt-daily", "apt-daily-upgrade", "dpkg-db-backup", "e2scrub_all", "fstrim")
# What takes time to copy, and shows nothing.
SPARED = (
    "usr/share/doc usr/share/locale usr/share/man var/lib/apt/lists var/cache/apt "
    + "lib/modules/*/kernel/sound lib/modules/*/kernel/drivers/gpu lib/modules/*/kernel/drivers/iio "
    + "lib/modules/*/kernel/drivers/media lib/modules/*/kernel/drivers/staging "
    + "lib/modules/*/kernel/drivers/infiniband lib/modules/*/kernel/drivers/net/wireless"
).split()
FIRST_S = 600


def version(*what):
    """Changes when what something is made of changes."""
    return hashlib.sha256(repr(what).encode()).hexdigest()[:8]


def base(cache):
    """The tree of a Debian, made once. This is the one step that needs a network."""
    tree = os.path.join(cache, "base-" + version(SUITE, PACKAGES, INITRAMFS, SETTINGS, WANTED, NOT_WANTED, SPARED))
    if os.path.exists(tree):
        return tree
    made = tree + ".new"
    shutil.rmtree(made, ignore_errors=True)
    mirror = os.environ.get("KA_VM_MIRROR", MIRROR)
    print(f"making a Debian in {tree}, from {mirror}", flush=True)
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, made, mirror]
    with open(tree + ".log", "wb") as log:
        run(command, stdout=log, stderr=log)
        for path, text in SETTINGS.items():
            path = os.path.join(made, path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write(text)
        with open(os.path.join(made, "etc/initramfs-tools/modules"), "a") as file:
            file.write(INITRAMFS)
        units = os.path.join(made, "etc/systemd/system")
        os.makedirs(os.path.join(units, "multi-user.target.wants"), exist_ok=True)
        for name, target in WANTED.items():
            os.symlink(target, os.path.join(units, "multi-user.target.wants", f"{name}.service"))
        for name in NOT_WANTED:
            os.symlink("/dev/null", os.path.join(units, f"{name}.timer"))
        for path in (path for pattern in SPARED for path in glob.glob(os.path.join(made, pattern))):
            shutil.rmtree(path)
        # Its /proc and /dev go with the namespace of mounts.
        release = os.listdir(os.path.join(made, "lib/modules"))[0]
        inside = 'for d in proc sys dev; do mount --rbind /$d "$0/$d"; done; '
        inside += 'chroot "$0" depmod "$1"; chroot "$0" update-initramfs -u -k all'
        command = ["unshare", "--mount", "--propagation=private", "sh", "-ec", inside, made, release]
        run(command, stdout=log, stderr=log)
    os.rename(made, tree)
    return tree


def kernel(tree):
    """The tree's kernel and initrd."""
    names = sorted(name for name in os.listdir(os.path.join(tree, "boot")) if name.startswith("vmlinuz-"))
    return [os.path.join(tree, "boot", name) for name in (names[-1], names[-1].replace("vmlinuz", "initrd.img"))]


def image(lab, variant):
    """The image of a golden node's disk, made once for each Debian."""
    texts = DESCS[variant], FSTABS[variant], LOADERS[variant], FIRST, SIZE_MIB, inspect.getsource(tricky)
    path = os.path.join(lab.cache, f"{variant}-{version(lab.base, texts)}.img")
    if os.path.exists(path):
        return path
    made, at, desc = path + ".new", os.path.join(lab.folder, "golden-root"), path + ".desc"
    with open(made, "wb") as file:
        file.truncate(0)
        file.truncate(SIZE_MIB << 20)
    with open(desc, "w") as file:
        file.write(DESCS[variant])
    os.makedirs(at, exist_ok=True)
    try:
        run([lab.program("ka-desc"), "apply", desc, "--disk", made, "--yes", "--mount", at], capture_output=True)
        fill(lab.base, at, variant)
    finally:
        subprocess.run([lab.program("ka-desc"), "umount", at], capture_output=True, check=False)
    machine = Machine(lab, f"making-{variant}", made, uefi=variant == "uefi")
    subvolume = PARTS[variant][0][1]
    flags = f"rootflags=subvol={subvolume}" if subvolume else ""
    words = f"root=UUID={ROOT} {flags} init=/first console=ttyS0 quiet panic=1"
    machine.start(kernel=[*kernel(lab.base), words])
    machine.wait("KA-FIRST-OK", FIRST_S)
    machine.ended(60)
    os.rename(made, path)
    return path


def fill(tree, at, variant):
    """Puts the system into the mounted tree, with what makes it this variant's."""
    run(["cp", "-a", f"{tree}/.", at])
    os.makedirs(os.path.join(at, "boot/efi"), exist_ok=True)
    texts = {
        "etc/fstab": FSTABS[variant],
        "etc/machine-id": MACHINE_ID + "\n",
        "first": FIRST.format(loader=LOADERS[variant]),
        "home/notes.txt": "in the other partition\n",
    }
    for name, text in texts.items():
        with open(os.path.join(at, name), "w") as file:
            file.write(text)
    os.chmod(os.path.join(at, "first"), 0o755)
    tricky.make(os.path.join(at, "srv/tricky"))


def run(command, **how):
    """Runs a command; that it fails is a failure."""
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, check=False, **how)
    if ended.returncode != 0:
        said = b"".join(text for text in (ended.stdout, ended.stderr) if text).decode(errors="replace")
        raise Failure(f"{' '.join(command)}: status {ended.returncode} {said}")
    return ended
