//! How many files a process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lets the process have as many files open as it is allowed to. What a shell gives, 1024, is too few:
/// each block of the store takes two. Nothing here waits by `select`, which is why the limit is so low.
/// Call it first in `main`; where it cannot be, the limit stays what it was.
pub fn open_as_many_as_allowed() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some() && limit.current != limit.maximum {
        // There is no log yet, and no harm before files are many.
        let highest = Rlimit { current: limit.maximum, ..limit };
        setrlimit(Resource::Nofile, highest).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    #[test]
    fn the_limit_of_open_files_becomes_the_highest_there_is() {
        let limit = getrlimit(Resource::Nofile);
        let low = limit.maximum.unwrap_or(4096).min(900);
        setrlimit(Resource::Nofile, Rlimit { current: Some(low), ..limit }).unwrap();
        super::open_as_many_as_allowed();
        assert_eq!(getrlimit(Resource::Nofile), Rlimit { current: limit.maximum, ..limit });
    }
}
