//! Finds what changes while it is read: databases, and files that are open for writing. Reads only.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ka_desc::machine::Machine;
use serde::Serialize;

use crate::golden::facts::Mount;

/// So many open files are shown.
const SHOWN: usize = 20;

/// The directories in which databases, and programs like them, keep their files.
const DATABASES: [(&str, &str); 24] = [
    ("PostgreSQL", "/var/lib/postgresql"),
    ("PostgreSQL", "/var/lib/pgsql"),
    ("MySQL or MariaDB", "/var/lib/mysql"),
    ("MongoDB", "/var/lib/mongodb"),
    ("MongoDB", "/var/lib/mongo"),
    ("Redis", "/var/lib/redis"),
    ("Valkey", "/var/lib/valkey"),
    ("OpenLDAP", "/var/lib/ldap"),
    ("OpenLDAP", "/var/lib/openldap"),
    ("389 Directory Server", "/var/lib/dirsrv"),
    ("etcd", "/var/lib/etcd"),
    ("Consul", "/var/lib/consul"),
    ("InfluxDB", "/var/lib/influxdb"),
    ("Prometheus", "/var/lib/prometheus"),
    ("Elasticsearch", "/var/lib/elasticsearch"),
    ("OpenSearch", "/var/lib/opensearch"),
    ("Cassandra", "/var/lib/cassandra"),
    ("CouchDB", "/var/lib/couchdb"),
    ("RabbitMQ", "/var/lib/rabbitmq"),
    ("ClickHouse", "/var/lib/clickhouse"),
    ("Docker", "/var/lib/docker/overlay2"),
    ("containerd", "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs"),
    ("Podman", "/var/lib/containers/storage/overlay"),
    ("virtual machines", "/var/lib/libvirt/images"),
];

/// Logs may miss their last lines.
const LOGS: &str = "/var/log";

/// The files that change while they are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Busy {
    /// The databases, and the directories of their files.
    pub databases: Vec<(&'static str, PathBuf)>,
    /// Files that are open for writing, and the programs that have them open.
    pub files: Vec<(PathBuf, String)>,
    /// The number of open files beyond those.
    pub more: usize,
}

impl Busy {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.databases.is_empty() && self.files.is_empty()
    }
}

/// Returns what of these file systems changes while it is read, but for the directories that are left out.
#[must_use]
pub fn busy(machine: &Machine, mounts: &[&Mount], excluded: &[PathBuf]) -> Busy {
    let out = |path: &Path| excluded.iter().any(|dir| path.starts_with(dir));
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    let devices: Vec<u64> =
        mounts.iter().filter(|mount| mount.writable).filter_map(|mount| device(&mount.here)).collect();
    let databases = DATABASES.into_iter().filter(|(_, path)| {
        let here = machine.path(path);
        let cloned = device(&here).is_some_and(|device| devices.contains(&device));
        cloned && !out(path.as_ref()) && fs::read_dir(here).is_ok_and(|mut dir| dir.next().is_some())
    });
    let mut files = BTreeMap::new();
    for process in numbers(&machine.path("proc")) {
        // What we have open is none of the golden node's business.
        if process.file_name().is_some_and(|pid| *pid == *std::process::id().to_string()) {
            continue;
        }
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        for fd in numbers(&process.join("fd")) {
            if let Some(path) = written(&process, &fd, &devices)
                && !path.starts_with(LOGS)
                && !out(&path)
            {
                files.entry(path).or_insert_with(|| name.trim().to_owned());
            }
        }
    }
    let more = files.len().saturating_sub(SHOWN);
    Busy {
        databases: databases.map(|(what, path)| (what, path.into())).collect(),
        files: files.into_iter().take(SHOWN).collect(),
        more,
    }
}

/// The entries of a directory that are called by numbers. What went meanwhile is no loss.
fn numbers(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let number = |name: &std::ffi::OsStr| name.to_string_lossy().bytes().all(|b| b.is_ascii_digit());
    entries.filter(|entry| number(&entry.file_name())).map(|entry| entry.path()).collect()
}

/// The file that a process writes to here, if it is one of ours.
fn written(process: &Path, fd: &Path, devices: &[u64]) -> Option<PathBuf> {
    let meta = fs::metadata(fd).ok()?;
    if !meta.is_file() || meta.nlink() == 0 || !devices.contains(&meta.dev()) {
        return None;
    }
    let info = fs::read_to_string(process.join("fdinfo").join(fd.file_name()?)).ok()?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let flags = u32::from_str_radix(flags.trim(), 8).ok()?;
    // O_WRONLY and O_RDWR.
    matches!(flags & 3, 1 | 2).then(|| fs::read_link(fd).ok()).flatten()
}
