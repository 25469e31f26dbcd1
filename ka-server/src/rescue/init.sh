#!/bin/busybox sh
# The first program of a node's rescue system: drivers, network, then ka-d-install. The kernel's command line says
#
#   ka.session=NAME  ka.key=KEY  ka.server=ADDRESS   which session, and what lets the node in
#   ka.insecure=1                                    the session has no key
#   ka.disk=[NAME=]DEVICE                            which disk; may be there several times
#   ka.then=reboot|poweroff|shell                    what to do after it
#   ka.iface=CARD  BOOTIF=01-52-54-00-…              only this network card
#   ka.ip=ADDRESS/MASK[,GATEWAY]                     an address without DHCP
#   ka.shell=off                                     no shell: not on tty2, and not after a failure

export PATH=/usr/sbin:/usr/bin:/run/busybox HOME=/root TERM=linux
LOG=/run/ka/install.log

say() { echo "ka: $*"; }

devices() {
  bb=/bin/busybox
  $bb mount -t proc proc /proc
  $bb mount -t sysfs sys /sys
  $bb mount -t devtmpfs dev /dev
  $bb mkdir -p /dev/pts /dev/shm
  $bb mount -t devpts devpts /dev/pts
  $bb mount -t tmpfs -o mode=755 run /run
  $bb mkdir -p /run/ka /run/busybox
  # Behind the real tools, which come first in PATH.
  $bb --install -s /run/busybox
  [ ! -d /sys/firmware/efi ] || mount -t efivarfs efivarfs /sys/firmware/efi/efivars
  echo 4 >/proc/sys/kernel/printk
}

# Takes what the kernel's command line says.
read_words() {
  # Words are no patterns.
  set -f
  for word in $(cat /proc/cmdline); do
    value=${word#*=}
    case $word in
    ka.session=*) session=$value ;;
    ka.server=*) server=$value ;;
    # Not as an argument: others see those.
    ka.key=*) (umask 077 && echo "$value" >/run/ka.key) && key=/run/ka.key ;;
    ka.insecure=1) insecure=1 ;;
    ka.disk=*) disks="$disks $value" ;;
    ka.then=*) after=$value ;;
    ka.iface=*) iface=$value ;;
    BOOTIF=*) mac=$(echo "${value#01-}" | tr A-Z- a-z:) ;;
    ka.ip=*) static=$value ;;
    ka.shell=off) shell=off ;;
    esac
  done
  unset word value
  set +f
}

# Loads the drivers of all that is there. A controller brings disks, which want drivers, too: until nothing new comes.
drivers() {
  while new=$(find /sys/devices -name modalias -exec cat {} + 2>/dev/null | sort -u) && [ "$new" != "$known" ]; do
    known=$new
    # Most of what a machine has is for nothing here, and has no driver here. With its path, because busybox takes its
    # own modprobe first, which cannot read these indices.
    echo "$new" | tr '\n' '\0' | xargs -0 /usr/sbin/modprobe -abq >>/run/ka/drivers.log 2>&1
  done
}

# The wired network cards, of which perhaps only one is meant.
cards() {
  for path in /sys/class/net/*; do
    card=${path##*/}
    [ -e "$path/device" ] && [ ! -e "$path/phy80211" ] && [ "$(cat "$path/type")" = 1 ] || continue
    if [ -n "$iface" ]; then
      [ "$card" = "$iface" ] || continue
    elif [ -n "$mac" ]; then
      [ "$(cat "$path/address")" = "$mac" ] || continue
    fi
    echo "$card"
  done
}

# Those of them that have a link.
live() {
  for card in $(cards); do
    [ "$(cat "/sys/class/net/$card/carrier" 2>/dev/null)" != 1 ] || echo "$card"
  done
}

# Waits for links: up to ten seconds for the first one, then three for the others.
links() {
  left=10
  while [ $left -gt 0 ]; do
    drivers
    for card in $(cards); do ip link set "$card" up; done
    [ -z "$(cards)" ] || [ "$(live)" != "$(cards)" ] || return
    [ -z "$(live)" ] || [ $left -le 3 ] || left=3
    left=$((left - 1))
    sleep 1
  done
}

# Gives the cards addresses, each for itself; those that got none write no file.
addresses() {
  rm -f /run/ka/address.*
  if [ -n "$static" ]; then
    card=$(live | head -n 1)
    [ -n "$card" ] || return
    address=${static%%,*}
    ip addr flush dev "$card"
    ip addr add "$address" dev "$card" && echo "$address" >"/run/ka/address.$card"
    [ "$address" = "$static" ] || ip route add default via "${static#*,}" dev "$card"
    return
  fi
  waiting=
  for card in $(live); do
    # It stays, and keeps the lease.
    udhcpc -i "$card" -s /etc/udhcpc.sh -p "/run/ka/udhcpc.$card.pid" -n -t 5 -T 2 >>/run/ka/network.log 2>&1 &
    waiting="$waiting $!"
  done
  [ -z "$waiting" ] || wait $waiting
}

network() {
  ip link set lo up
  while :; do
    links
    addresses
    for file in /run/ka/address.*; do
      [ -e "$file" ] || continue
      say "network card ${file##*.} has address $(cat "$file")"
      found=1
    done
    if [ -n "$found" ]; then
      [ "$(hostname)" != '(none)' ] || hostname "node-$(tr -d : <"/sys/class/net/${file##*.}/address")"
      return
    fi
    if [ -z "$(cards)" ]; then
      say "no wired network card${iface:+ $iface}${mac:+ with address $mac} that this rescue has a driver for;" \
        "there are:" $(ls /sys/class/net)
    elif [ -z "$(live)" ]; then
      say "no link on" $(cards)": is the cable plugged in, and the switch on?"
    elif [ -n "$static" ]; then
      say "ka.ip=$static is no address that" $(live) "takes: it is written like 10.0.0.7/24,10.0.0.1"
    else
      say "no DHCP server answers on" $(live)": is it on, and in this network? (ka.ip=ADDRESS/MASK does without)"
    fi
    say "trying again$([ "$shell" = off ] || echo '; press Enter for a shell')"
    if read -r -t 5 _ && [ "$shell" != off ]; then a_shell; fi
  done
}

# A shell on the console, which must be the terminal that commands it for Ctrl-C to work.
a_shell() {
  say "a shell; it ends with exit, and the machine with reboot -f or poweroff -f"
  setsid cttyhack sh
}

install() {
  # Nodes may well be started in the evening, and the session in the morning.
  set -- --discover-timeout 24h
  [ -z "$session" ] || set -- "$@" --session "$session"
  [ -z "$server" ] || set -- "$@" --host "$server"
  [ -z "$key" ] || set -- "$@" --key-file "$key"
  [ -z "$insecure" ] || set -- "$@" --insecure
  for disk in $disks; do set -- "$@" --disk "$disk"; done
  [ -z "$after" ] || set -- "$@" --then "$after"
  setsid cttyhack ka-d-install "$@" --log $LOG
  status=$?
  if [ $status = 0 ]; then
    say "ka-d-install is done"
  else
    last=$(tail -n 1 $LOG 2>/dev/null)
    say "ka-d-install ended with status $status${last:+: $last}"
    say "${last:+all that it said is in $LOG; }nothing more happens by itself"
  fi
}

devices
read_words
drivers
# What takes its time to appear, such as what is on USB.
(for _ in 1 2 3 4 5 6 7 8 9 10; do sleep 3 && drivers; done) &
if [ "$shell" != off ] && [ -c /dev/tty2 ]; then
  (while :; do setsid -c sh </dev/tty2 >/dev/tty2 2>&1 || sleep 1; done) &
fi
if [ -n "$session$server" ]; then
  network
  install
else
  say "the kernel's command line has no ka.session= and no ka.server=, so nothing is installed"
fi
# The first program never ends.
while :; do
  if [ "$shell" = off ]; then sleep 3600; else a_shell; fi
done
