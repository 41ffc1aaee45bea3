//! The machine under the brokers: what it is, how busy it is, and how much its disk has written.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

const SECTOR: f64 = 512.0;
/// A device that writes less than this in a second is quiet.
const QUIET: f64 = 64.0 * 1024.0;
/// After so long a device that is not quiet is taken as it is; the background is measured and subtracted anyway.
const PATIENCE: Duration = Duration::from_secs(20);

/// The block device that a folder lies on.
pub struct Device {
    major: u32,
    minor: u32,
    /// Its name in `/proc/diskstats`.
    pub name: String,
}

impl Device {
    /// The device under a folder. An error says why its writes cannot be counted: a file system in memory, or one that
    /// lies on several devices.
    pub fn under(folder: &Path) -> Result<Self, String> {
        let device = fs::metadata(folder).map_err(|e| format!("{}: {e}", folder.display()))?.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let name = counters(major, minor).map(|(name, _)| name).ok_or_else(|| {
            format!(
                "{}: device {major}:{minor} is not in /proc/diskstats, so bytes that reach the disk cannot be counted; \
                 BENCH_DIR names a folder elsewhere",
                folder.display()
            )
        })?;
        Ok(Self { major, minor, name })
    }

    /// Bytes written since it was attached.
    pub fn written(&self) -> f64 {
        counters(self.major, self.minor).expect("the device was there before").1
    }

    /// Writes out all dirty pages, then waits until two seconds in a row were quiet.
    pub fn settle(&self) {
        rustix::fs::sync();
        let (begin, mut quiet, mut before) = (Instant::now(), 0, self.written());
        while quiet < 2 && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_secs(1));
            let now = self.written();
            quiet = if now - before < QUIET { quiet + 1 } else { 0 };
            before = now;
        }
    }

    /// Bytes a second that the rest of the machine writes, over some seconds.
    pub fn background(&self, over: Duration) -> f64 {
        let (begin, before) = (Instant::now(), self.written());
        std::thread::sleep(over);
        (self.written() - before) / begin.elapsed().as_secs_f64()
    }
}

/// A device's name and the bytes written to it.
fn counters(major: u32, minor: u32) -> Option<(String, f64)> {
    let text = fs::read_to_string("/proc/diskstats").ok()?;
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let same = fields.first()?.parse() == Ok(major) && fields.get(1)?.parse() == Ok(minor);
        let sectors: f64 = fields.get(9).filter(|_| same)?.parse().ok()?;
        Some(((*fields.get(2)?).to_owned(), sectors * SECTOR))
    })
}

/// The load averages, as the kernel writes them.
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// How many cores there are for this process.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// One line about the machine: cores, processor, memory, kernel.
pub fn facts() -> String {
    let line = |path: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let value = text.lines().find(|line| line.starts_with(key)).and_then(|line| line.split_once(':'));
        value.map_or_else(|| "?".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let memory = line("/proc/meminfo", "MemTotal");
    let gib = memory.split(' ').next().and_then(|kib| kib.parse::<f64>().ok()).map_or(0.0, |kib| kib / 1_048_576.0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{} cores, {}, {gib:.0} GiB of memory, Linux {}",
        cores(),
        line("/proc/cpuinfo", "model name"),
        kernel.trim()
    )
}
