//! Commits N values of 200 bytes, one by one, to one store: `state-store sled|sled-default|redb DIR N`.
//! Each commit asks for durability in the way the store's own documentation names.

use std::error::Error;
use std::path::Path;

use redb::{Database, TableDefinition};

const VALUE: [u8; 200] = [7; 200];
const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("state");

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, dir, commits] = arguments.as_slice() else {
        return Err("usage: state-store sled|sled-default|redb DIR N".into());
    };
    let (dir, commits) = (Path::new(dir), commits.parse()?);
    match store.as_str() {
        // Without the background thread, to see what flush() itself does.
        "sled" => with_sled(sled::Config::new().path(dir).flush_every_ms(None), commits),
        "sled-default" => with_sled(sled::Config::new().path(dir), commits),
        "redb" => with_redb(dir, commits),
        other => Err(format!("no such store: {other}").into()),
    }
}

fn with_sled(config: sled::Config, commits: u64) -> Result<(), Box<dyn Error>> {
    let db = config.open()?;
    for n in 0..commits {
        db.insert(n.to_be_bytes(), VALUE.as_slice())?;
        db.flush()?;
    }
    Ok(())
}

fn with_redb(dir: &Path, commits: u64) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(dir)?;
    let db = Database::create(dir.join("state.redb"))?;
    for n in 0..commits {
        let transaction = db.begin_write()?;
        transaction.open_table(TABLE)?.insert(n, VALUE.as_slice())?;
        transaction.commit()?;
    }
    Ok(())
}
