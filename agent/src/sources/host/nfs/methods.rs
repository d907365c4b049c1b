//! What NFS can be asked, in the order in which the kernel counts it.

/// The methods of one line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Methods {
    /// The protocol's version.
    pub(super) proto: &'static str,
    /// In the line's order; an empty name stands for what is not told.
    pub(super) names: &'static [&'static str],
}

/// The methods of a line of `/proc/net/rpc/nfs`.
pub(super) fn of_client(key: &str) -> Option<Methods> {
    match key {
        "proc2" => Some(Methods { proto: "2", names: &V2 }),
        "proc3" => Some(Methods { proto: "3", names: &V3 }),
        "proc4" => Some(Methods { proto: "4", names: &V4_CLIENT }),
        _ => None,
    }
}

/// The methods of a line of `/proc/net/rpc/nfsd`; calls that do nothing are not told.
pub(super) fn of_server(key: &str) -> Option<Methods> {
    match key {
        "proc2" => Some(Methods { proto: "2", names: &V2_SERVER }),
        "proc3" => Some(Methods { proto: "3", names: &V3_SERVER }),
        "proc4ops" => Some(Methods { proto: "4", names: &V4_SERVER }),
        _ => None,
    }
}

const V2: [&str; 18] = with_first("Null", V2_SERVER);
const V3: [&str; 22] = with_first("Null", V3_SERVER);

const fn with_first<const N: usize>(
    first: &'static str,
    mut names: [&'static str; N],
) -> [&'static str; N] {
    if let [place, ..] = names.as_mut_slice() {
        *place = first;
    }
    names
}

const V2_SERVER: [&str; 18] = [
    "", "GetAttr", "SetAttr", "Root", "Lookup", "ReadLink", "Read", "WrCache", "Write", "Create",
    "Remove", "Rename", "Link", "SymLink", "MkDir", "RmDir", "ReadDir", "FsStat",
];

const V3_SERVER: [&str; 22] = [
    "",
    "GetAttr",
    "SetAttr",
    "Lookup",
    "Access",
    "ReadLink",
    "Read",
    "Write",
    "Create",
    "MkDir",
    "SymLink",
    "MkNod",
    "Remove",
    "RmDir",
    "Rename",
    "Link",
    "ReadDir",
    "ReadDirPlus",
    "FsStat",
    "FsInfo",
    "PathConf",
    "Commit",
];

const V4_CLIENT: [&str; 59] = [
    "Null",
    "Read",
    "Write",
    "Commit",
    "Open",
    "OpenConfirm",
    "OpenNoattr",
    "OpenDowngrade",
    "Close",
    "Setattr",
    "FsInfo",
    "Renew",
    "SetClientID",
    "SetClientIDConfirm",
    "Lock",
    "Lockt",
    "Locku",
    "Access",
    "Getattr",
    "Lookup",
    "LookupRoot",
    "Remove",
    "Rename",
    "Link",
    "Symlink",
    "Create",
    "Pathconf",
    "StatFs",
    "ReadLink",
    "ReadDir",
    "ServerCaps",
    "DelegReturn",
    "GetACL",
    "SetACL",
    "FsLocations",
    "ReleaseLockowner",
    "Secinfo",
    "FsidPresent",
    "ExchangeID",
    "CreateSession",
    "DestroySession",
    "Sequence",
    "GetLeaseTime",
    "ReclaimComplete",
    "GetDeviceInfo",
    "LayoutGet",
    "LayoutCommit",
    "LayoutReturn",
    "SecinfoNoName",
    "TestStateID",
    "FreeStateID",
    "GetDeviceList",
    "BindConnToSession",
    "DestroyClientID",
    "Seek",
    "Allocate",
    "DeAllocate",
    "LayoutStats",
    "Clone",
];

/// Operations 0 to 2 do not exist; those of NFS 4.1 and later are not told by node_exporter either.
const V4_SERVER: [&str; 40] = [
    "",
    "",
    "",
    "Access",
    "Close",
    "Commit",
    "Create",
    "DelegPurge",
    "DelegReturn",
    "GetAttr",
    "GetFH",
    "Link",
    "Lock",
    "Lockt",
    "Locku",
    "Lookup",
    "LookupRoot",
    "Nverify",
    "Open",
    "OpenAttr",
    "OpenConfirm",
    "OpenDgrd",
    "PutFH",
    "",
    "",
    "Read",
    "ReadDir",
    "ReadLink",
    "Remove",
    "Rename",
    "Renew",
    "RestoreFH",
    "SaveFH",
    "SecInfo",
    "SetAttr",
    "SetClientID",
    "SetClientIDConfirm",
    "Verify",
    "Write",
    "RelLockOwner",
];
