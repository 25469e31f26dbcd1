//! Puts programs into the archive, each with the libraries it needs.
//!
//! Libraries are looked for as a loader without a cache does it. So none is taken that is built for the golden node's
//! processor alone (`glibc-hwcaps`), which `ldd` would show and an older node could not run.

use std::fs;

use ka_desc::error::Error;
use ka_desc::system::tree::Tree;

use super::cpio::{Archive, Content, Entry, Mode};
use super::elf::Elf;

/// Directories that are links in a system with one `/usr`. The archive has one, whatever the system has.
pub(super) const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// A system's programs and libraries, on their way into an archive.
pub(super) struct Programs<'a> {
    tree: &'a Tree,
    archive: &'a mut Archive,
    /// The directories of libraries from the system's `/etc/ld.so.conf`.
    folders: Vec<String>,
}

impl<'a> Programs<'a> {
    /// From this system into this archive.
    pub(super) fn new(tree: &'a Tree, archive: &'a mut Archive) -> Self {
        let folders = configured(tree, "/etc/ld.so.conf", 0);
        Self { tree, archive, folders }
    }

    /// Adds a program, and what it needs.
    ///
    /// # Errors
    /// It cannot be read, or a library is missing: a sentence.
    pub(super) fn add(&mut self, path: &str) -> Result<(), Error> {
        self.put(path, &merged(path), None)
    }

    /// Adds a library that programs of this machine load by name while they run, if there is one.
    ///
    /// # Errors
    /// It cannot be read, or what it needs is missing: a sentence.
    pub(super) fn add_library(&mut self, name: &str, user: &str) -> Result<(), Error> {
        let machine = self.elf(user)?.map_or(0, |elf| elf.machine);
        match self.find(name, machine, &[]) {
            Some((path, at)) => self.put(&path, &at, Some(machine)),
            None => Ok(()),
        }
    }

    /// Adds the file at `path` as `at`, by way of a link if it really is somewhere else.
    fn put(&mut self, path: &str, at: &str, machine: Option<u16>) -> Result<(), Error> {
        let real = self.tree.real(path).ok_or_else(|| format!("{path} does not exist"))?;
        let target = merged(&real);
        if at != target {
            self.archive.add(at, Entry::Link(target.clone()));
        }
        if self.archive.has(&target) {
            return Ok(());
        }
        let elf = self.elf(&real)?;
        self.archive.add(&target, Entry::File(Content::Copy(self.tree.host(&real)), Mode::Program));
        let Some(elf) = elf else { return Ok(()) };
        if let Some(interpreter) = &elf.interpreter {
            self.put(interpreter, &merged(interpreter), Some(elf.machine))?;
        }
        let origin = real.rsplit_once('/').map_or("", |(folder, _)| folder);
        let search: Vec<String> = elf
            .search
            .iter()
            .map(|path| path.replace("${ORIGIN}", origin).replace("$ORIGIN", origin))
            .collect();
        for name in &elf.needed {
            let (path, at) = self.find(name, elf.machine, &search).ok_or_else(|| {
                let of = machine.map_or("program", |_| "library");
                format!("the {of} {real} needs {name}, which is nowhere: reinstall the package that has it")
            })?;
            self.put(&path, &at, Some(elf.machine))?;
        }
        Ok(())
    }

    /// Returns the path of a library, and its path in the archive: one where the loader looks without being told.
    fn find(&self, name: &str, machine: u16, search: &[String]) -> Option<(String, String)> {
        let fits = |path: &String| self.elf(path).ok().flatten().is_some_and(|elf| elf.machine == machine);
        let within = |folder: &String| Some(format!("{folder}/{name}")).filter(fits);
        if let Some(path) = search.iter().find_map(within) {
            let at = merged(&path);
            return Some((path, at));
        }
        let known = defaults(machine);
        let path = self.folders.iter().chain(&known).find_map(within)?;
        let at = match known.iter().any(|folder| path == format!("{folder}/{name}")) {
            true => merged(&path),
            false => format!("/usr/lib/{name}"),
        };
        Some((path, at))
    }

    fn elf(&self, path: &str) -> Result<Option<Elf>, Error> {
        let file = self.tree.file(path)?;
        fs::read(&file).map(|bytes| Elf::read(&bytes)).map_err(|e| format!("{}: {e}", file.display()).into())
    }
}

/// In which directories Debian's loader looks.
fn defaults(machine: u16) -> Vec<String> {
    let triplet = match machine {
        62 => Some("x86_64-linux-gnu"),
        183 => Some("aarch64-linux-gnu"),
        _ => None,
    };
    let own = triplet.into_iter().flat_map(|t| [format!("/lib/{t}"), format!("/usr/lib/{t}")]);
    own.chain(["/lib64", "/usr/lib64", "/lib", "/usr/lib"].map(Into::into)).collect()
}

/// The same path in a system with one `/usr`.
pub(super) fn merged(path: &str) -> String {
    let path = path.trim_start_matches('/');
    match path.split('/').next().is_some_and(|first| MERGED.contains(&first)) {
        true => format!("/usr/{path}"),
        false => format!("/{path}"),
    }
}

/// The directories that a file such as `/etc/ld.so.conf` names, also by other files.
fn configured(tree: &Tree, path: &str, depth: u32) -> Vec<String> {
    const DEPTH_MAX: u32 = 4;
    let text = tree.text(path).unwrap_or_default();
    let mut folders = Vec::new();
    for line in text.lines().map(str::trim).filter(|_| depth < DEPTH_MAX) {
        match line.strip_prefix("include ").map(str::trim) {
            Some(pattern) => {
                let (folder, file) = pattern.rsplit_once('/').unwrap_or(("/etc", pattern));
                let (begin, end) = file.split_once('*').unwrap_or((file, ""));
                let fits = |name: &String| match file.contains('*') {
                    true => name.starts_with(begin) && name.ends_with(end),
                    false => name == file,
                };
                for name in tree.list(folder).unwrap_or_default().iter().filter(|name| fits(name)) {
                    folders.extend(configured(tree, &format!("{folder}/{name}"), depth + 1));
                }
            }
            None if line.starts_with('/') => folders.push(line.trim_end_matches('/').to_owned()),
            None => {}
        }
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn paths_of_a_system_with_one_usr() {
        for (path, at) in [
            ("/bin/tar", "/usr/bin/tar"),
            ("/lib64/ld.so", "/usr/lib64/ld.so"),
            ("/usr/lib/x", "/usr/lib/x"),
            ("/library/x", "/library/x"),
            ("/opt/lib/x", "/opt/lib/x"),
        ] {
            assert_eq!(merged(path), at);
        }
    }

    #[test]
    fn the_loader_s_settings_are_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc/ld.so.conf.d")).unwrap();
        fs::write(dir.path().join("etc/ld.so.conf"), "include /etc/ld.so.conf.d/*.conf\n").unwrap();
        fs::write(dir.path().join("etc/ld.so.conf.d/a.conf"), "# ours\n/usr/local/lib\n/opt/x/\n").unwrap();
        fs::write(dir.path().join("etc/ld.so.conf.d/b.bak"), "/none\ninclude /etc/ld.so.conf\n").unwrap();
        let tree = Tree::open(dir.path(), "the system").unwrap();
        assert_eq!(configured(&tree, "/etc/ld.so.conf", 0), ["/usr/local/lib", "/opt/x"]);
    }

    #[test]
    fn a_program_of_this_machine_comes_with_its_libraries() {
        let (tree, mut archive) = (Tree::open(Path::new("/"), "the system").unwrap(), Archive::default());
        let Some(path) = tree.program("tar") else { return };
        Programs::new(&tree, &mut archive).add(&path).unwrap();
        assert!(archive.has(&merged(&path)));
        let bytes = fs::read(tree.file(&path).unwrap()).unwrap();
        let names = Elf::read(&bytes).unwrap().needed;
        let mut written = Vec::new();
        archive.write(&mut written).unwrap();
        for name in names {
            let text = [name.as_bytes(), b"\0"].concat();
            assert!(written.windows(text.len()).any(|bytes| bytes == text), "{name}");
        }
    }
}
