//! What a virtual machine's own process says of it: QEMU is started with `-name`, which anybody may read.

use std::path::Path;

use crate::sources::attributes::read_bytes;

/// QEMU's command lines are some kilobytes; `-name` comes early.
const COMMAND_BYTES_MAX: u64 = 16 << 10;

/// What the machine is called that process `pid` runs.
pub(crate) fn name(procfs: &Path, pid: u32) -> Option<String> {
    let path = procfs.join(pid.to_string()).join("cmdline");
    let command = read_bytes(&path, COMMAND_BYTES_MAX).ok()?;
    parse(&String::from_utf8_lossy(&command))
}

fn parse(command: &str) -> Option<String> {
    let mut words = command.split('\0');
    words.find(|word| *word == "-name")?;
    let name = words.next()?.split(',').next()?;
    let name = name.strip_prefix("guest=").unwrap_or(name);
    (!name.is_empty() && name.len() <= 256).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machines_name_is_on_its_command_line() {
        let check = |command: &str, expected: Option<&str>| {
            assert_eq!(parse(command).as_deref(), expected, "{command}");
        };
        check("/usr/bin/kvm\0-id\x00102\0-name\0win,debug-threads=on\0-no-shutdown\0", Some("win"));
        check("qemu-system-x86_64\0-name\0guest=nas,debug-threads=on\0", Some("nas"));
        check("kvm\0-name", None);
        check("kvm\0-name\0,x\0", None);
        check("", None);
    }
}
