//! The texts for boot loaders: the kernel's command line, and entries around it. Pure.

use std::fmt::Write;

/// The placeholder for a key that is not known yet.
pub(super) const BLANK: &str = "...";

/// The key, or the reason why the command line has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secret<'a> {
    /// Here.
    Known(&'a str),
    /// The key is filled in later.
    Later,
    /// There is none.
    Insecure,
}

/// The kernel's command line.
pub(super) fn append(session: &str, secret: Secret<'_>, more: &[String]) -> String {
    let secret = match secret {
        Secret::Known(key) => format!("ka.key={key}"),
        Secret::Later => format!("ka.key={BLANK}"),
        Secret::Insecure => "ka.insecure=1".into(),
    };
    let mut line = format!("quiet ka.session={session} {secret}");
    for words in more {
        write!(line, " {words}").expect("a string takes everything");
    }
    line
}

/// The entries for everything that boots from a network.
pub(super) fn network(append: &str) -> String {
    format!(
        "\
# pxelinux: pxelinux.cfg/default, with vmlinuz and initrd beside pxelinux.0
default ka
label ka
  kernel vmlinuz
  append initrd=initrd {append}
  ipappend 2

# iPXE: a script beside vmlinuz and initrd
#!ipxe
kernel vmlinuz initrd=initrd BOOTIF=01-${{netX/mac:hexhyp}} {append}
initrd initrd
boot

# GRUB: grub.cfg, with vmlinuz and initrd at the root of what it boots from
menuentry 'ka' {{
  linux /vmlinuz BOOTIF=01-$net_default_mac {append}
  initrd /initrd
}}
"
    )
}

/// The settings of the disc's own boot loader.
pub(super) fn disc(append: &str) -> String {
    format!(
        "\
set default=0
set timeout=3
insmod all_video
menuentry 'ka' {{
  linux /boot/vmlinuz {append}
  initrd /boot/initrd
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_what_the_first_script_reads() {
        let more = ["ka.then=poweroff".to_owned(), "console=ttyS0".to_owned()];
        let line = append("lab", Secret::Known("7t3xk"), &more);
        assert_eq!(line, "quiet ka.session=lab ka.key=7t3xk ka.then=poweroff console=ttyS0");
        assert_eq!(append("lab", Secret::Later, &[]), "quiet ka.session=lab ka.key=...");
        assert_eq!(append("lab", Secret::Insecure, &[]), "quiet ka.session=lab ka.insecure=1");
        assert_eq!(network(&line).matches(&line).count(), 3);
        assert!(network(&line).contains("${netX/mac:hexhyp}"));
        assert!(disc(&line).contains(&format!("/boot/vmlinuz {line}\n")));
    }
}
