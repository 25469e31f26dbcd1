#!/bin/busybox sh
# What DHCP says about a network card becomes its address.
case $1 in
deconfig)
  ip addr flush dev "$interface"
  ip link set "$interface" up
  ;;
bound | renew)
  # A lease that goes on is no reason to take connections down.
  if ! ip -4 addr show dev "$interface" | grep -q " $ip/"; then
    ip addr flush dev "$interface"
    ip addr add "$ip/${mask:-24}" dev "$interface"
  fi
  [ -z "$router" ] || ip route add default via "${router%% *}" dev "$interface" 2>/dev/null
  [ -z "$hostname" ] || hostname "$hostname"
  echo "$ip/${mask:-24}" >"/run/ka/address.$interface"
  ;;
esac
exit 0
