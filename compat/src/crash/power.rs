//! A machine whose power can be cut: a file system of its own on an image of a disk.
//!
//! The image is a file on XFS, behind a loop device. It holds what the kernel has handed to the disk and nothing that
//! still waits in memory; a reflink copies it as it is at one instant. Such a copy, mounted, is what a machine finds after
//! its power came back, if its disk had lost nothing that it had taken. Not shown is a disk that forgets or reorders what
//! it was not told to flush. The broker also finds another boot id, as after any start of a machine.
//!
//! Needs root, loop devices, and mkfs.xfs (xfsprogs).

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::clients::command;

/// What is asked for when a tool is missing.
const NEEDS: &str = "this needs root, loop devices, xfsprogs and e2fsprogs";
const OUTER_BYTES: u64 = 24 << 30;
const INNER_BYTES: u64 = 8 << 30;

/// The disk, mounted while this lives.
pub struct Machine {
    place: tempfile::TempDir,
    mounted: Vec<PathBuf>,
    cuts: usize,
}

impl Machine {
    /// Makes the disk and mounts it.
    pub fn start() -> Result<Self, String> {
        let place = tempfile::tempdir().map_err(|e| e.to_string())?;
        let mut machine = Self { place, mounted: Vec::new(), cuts: 0 };
        let (outer, image) = (machine.path("outer"), machine.path("outer.image"));
        make(&image, OUTER_BYTES)?;
        run("mkfs.xfs -q -m reflink=1", &[&image])?;
        machine.mount(&image, &outer)?;
        make(&machine.image(), INNER_BYTES)?;
        run("mkfs.ext4 -q -F", &[&machine.image()])?;
        let (image, disk) = (machine.image(), machine.path("disk"));
        machine.mount(&image, &disk)?;
        std::fs::create_dir(machine.data()).map_err(|e| e.to_string())?;
        machine.new_boot()?;
        Ok(machine)
    }

    /// The log directory.
    pub fn data(&self) -> PathBuf {
        self.path("disk/data")
    }

    /// A program that starts the broker on this machine.
    pub fn broker(&self, binary: &Path) -> Result<PathBuf, String> {
        use std::os::unix::fs::PermissionsExt;
        let script = self.path("broker");
        let text = format!(
            "#!/bin/sh\nexec unshare --mount sh -c 'mount --bind \"{boot}\" /proc/sys/kernel/random/boot_id && exec \"$0\" \"$@\"' '{binary}' \"$@\"\n",
            boot = self.path("boot_id").display(),
            binary = binary.display(),
        );
        std::fs::write(&script, text).map_err(|e| e.to_string())?;
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).map_err(|e| e.to_string())?;
        Ok(script)
    }

    /// Copies the disk as it is now: what a cut of the power at this instant leaves. The broker must stand still.
    pub fn cut(&mut self) -> Result<(), String> {
        let before = self.image();
        self.cuts += 1;
        run("cp --reflink=always", &[&before, &self.image()])
    }

    /// Mounts what the cut left, when the broker is dead, and lets everything else go.
    pub fn power_on(&mut self) -> Result<(), String> {
        let disk = self.mounted.pop().ok_or("no disk is mounted")?;
        run("umount", &[&disk])?;
        std::fs::remove_file(self.path(&format!("outer/disk{}", self.cuts - 1))).map_err(|e| e.to_string())?;
        let image = self.image();
        self.mount(&image, &disk)?;
        self.new_boot()
    }

    fn new_boot(&self) -> Result<(), String> {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/uuid").map_err(|e| e.to_string())?;
        std::fs::write(self.path("boot_id"), id).map_err(|e| e.to_string())
    }

    fn mount(&mut self, image: &Path, folder: &Path) -> Result<(), String> {
        std::fs::create_dir_all(folder).map_err(|e| e.to_string())?;
        run("mount -o loop", &[image, folder])?;
        self.mounted.push(folder.to_owned());
        Ok(())
    }

    fn image(&self) -> PathBuf {
        self.path(&format!("outer/disk{}", self.cuts))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for folder in self.mounted.iter().rev() {
            if let Err(reason) = run("umount --lazy", &[folder]) {
                eprintln!("{reason}");
            }
        }
    }
}

fn make(image: &Path, bytes: u64) -> Result<(), String> {
    File::create(image).and_then(|file| file.set_len(bytes)).map_err(|e| format!("{}: {e}", image.display()))
}

fn run(tool: &str, paths: &[&Path]) -> Result<(), String> {
    let (name, arguments) = tool.split_once(' ').unwrap_or((tool, ""));
    let call = paths.iter().fold(command(name).args_str(arguments), |call, path| call.arg_path(path));
    call.output().map(|_| ()).map_err(|reason| format!("{tool}: {reason} ({NEEDS})"))
}
