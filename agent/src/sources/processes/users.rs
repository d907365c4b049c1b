//! Names of users: `/etc/passwd` of the host.
//!
//! Only what that file says: a user of a directory service, a dynamic user of systemd and one of an
//! unprivileged container is told by number. The file is read for each user met for the first time;
//! its text is not kept.

use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use crate::sources::Roots;

/// The most of the file that is read; a host's own is a few KiB.
const PASSWD_BYTES_MAX: u64 = 1 << 20;
/// The longest name told; `useradd` allows 32.
const NAME_BYTES_MAX: usize = 64;

/// The user's name on this host, or its number.
pub(super) fn name(roots: &Roots, user: u32) -> Arc<str> {
    // A host without the file has numbers only.
    let mut text = Vec::new();
    let open = File::open(roots.on_host("/etc/passwd"));
    if open.is_ok_and(|file| file.take(PASSWD_BYTES_MAX).read_to_end(&mut text).is_err()) {
        text.clear();
    }
    match find(&text, user) {
        Some(name) => name.into(),
        None => user.to_string().into(),
    }
}

/// The first name of the user with this number.
pub(super) fn find(passwd: &[u8], user: u32) -> Option<&str> {
    passwd.split(|b| *b == b'\n').find_map(|line| {
        let line = std::str::from_utf8(line).ok()?;
        let mut fields = line.split(':');
        let (name, _password, number) = (fields.next()?, fields.next()?, fields.next()?);
        let is_name = !name.is_empty()
            && name.len() <= NAME_BYTES_MAX
            && !name.chars().any(|c| c.is_control() || c.is_whitespace());
        (is_name && number.parse() == Ok(user)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_user_is_told_by_name_or_number() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots { rootfs: dir.path().into(), ..Roots::default() };
        assert_eq!(&*name(&roots, 33), "33");
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let text = b"root:x:0:0:root:/root:/bin/bash\n\xff:x:33:33\n:x:33:\nbad name:x:33:\n\
            www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\nother:x:33:33::/:/\nhalf:x";
        std::fs::write(dir.path().join("etc/passwd"), text).unwrap();
        for (user, expected) in [(0, "root"), (33, "www-data"), (100_000, "100000")] {
            assert_eq!(&*name(&roots, user), expected);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Some(name) = find(&bytes, 0) {
                prop_assert!(name.len() <= NAME_BYTES_MAX);
            }
        }
    }
}
