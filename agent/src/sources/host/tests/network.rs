//! The sources of the network.

use super::{check, check_with, with};

#[test]
fn netdev() {
    let settings = with("netdev", &[("device_exclude", "^veth")]);
    check_with(
        &settings,
        "netdev",
        &[
            (
                "proc/net/dev",
                "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes packets\n\
                   eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n\
                 veth1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n short: 1 2\n",
            ),
            ("sys/class/net/eth0/statistics/rx_nohandler", "17\n"),
        ],
        &[
            r#"node_network_receive_bytes_total{device="eth0"} 1"#,
            r#"node_network_receive_packets_total{device="eth0"} 2"#,
            r#"node_network_receive_errs_total{device="eth0"} 3"#,
            r#"node_network_receive_drop_total{device="eth0"} 4"#,
            r#"node_network_receive_fifo_total{device="eth0"} 5"#,
            r#"node_network_receive_frame_total{device="eth0"} 6"#,
            r#"node_network_receive_compressed_total{device="eth0"} 7"#,
            r#"node_network_receive_multicast_total{device="eth0"} 8"#,
            r#"node_network_transmit_bytes_total{device="eth0"} 9"#,
            r#"node_network_transmit_packets_total{device="eth0"} 10"#,
            r#"node_network_transmit_errs_total{device="eth0"} 11"#,
            r#"node_network_transmit_drop_total{device="eth0"} 12"#,
            r#"node_network_transmit_fifo_total{device="eth0"} 13"#,
            r#"node_network_transmit_colls_total{device="eth0"} 14"#,
            r#"node_network_transmit_carrier_total{device="eth0"} 15"#,
            r#"node_network_transmit_compressed_total{device="eth0"} 16"#,
            r#"node_network_receive_nohandler_total{device="eth0"} 17"#,
        ],
    );
}

#[test]
fn netclass() {
    check(
        "netclass",
        &[
            ("sys/class/net/bonding_masters", "bond0\n"),
            ("sys/class/net/eth0/flags", "0x1303\n"),
            ("sys/class/net/eth0/speed", "1000\n"),
            ("sys/class/net/eth0/mtu", "1500\n"),
            ("sys/class/net/eth0/carrier_changes", "2\n"),
            ("sys/class/net/eth0/operstate", "up\n"),
            ("sys/class/net/eth0/address", "01:02:03:04:05:06\n"),
            ("sys/class/net/eth0/duplex", "full\n"),
            ("sys/class/net/eth0/ifalias", "\n"),
        ],
        &[
            r#"node_network_carrier_changes_total{device="eth0"} 2"#,
            r#"node_network_flags{device="eth0"} 4867"#,
            r#"node_network_mtu_bytes{device="eth0"} 1500"#,
            r#"node_network_speed_bytes{device="eth0"} 1.25e+08"#,
            r#"node_network_up{device="eth0"} 1"#,
            concat!(
                r#"node_network_info{address="01:02:03:04:05:06",adminstate="up","#,
                r#"device="eth0",duplex="full",operstate="up"} 1"#
            ),
        ],
    );
}

#[test]
fn netstat() {
    check(
        "netstat",
        &[
            (
                "proc/net/netstat",
                "TcpExt: SyncookiesSent PruneCalled\nTcpExt: 3 4\nIpExt: InOctets\nIpExt: 6286396970\n",
            ),
            ("proc/net/snmp", "Tcp: MaxConn CurrEstab\nTcp: -1 7\nUdp: InErrors\nUdp: 2\n"),
            ("proc/net/snmp6", "Ip6InReceives 7\nIp6InOctets   \t 460\nUdp6NoPorts 0\nodd\n"),
        ],
        &[
            "node_netstat_TcpExt_SyncookiesSent 3",
            "node_netstat_IpExt_InOctets 6.28639697e+09",
            "node_netstat_Tcp_CurrEstab 7",
            "node_netstat_Udp_InErrors 2",
            "node_netstat_Ip6_InOctets 460",
            "node_netstat_Udp6_NoPorts 0",
        ],
    );
}

#[test]
fn sockstat() {
    let page = rustix::param::page_size();
    let mem_bytes = format!("node_sockstat_TCP_mem_bytes {}", 2 * page);
    check(
        "sockstat",
        &[
            ("proc/net/sockstat", "sockets: used 229\nTCP: inuse 4 orphan 0 tw 4 alloc 17 mem 2\n"),
            ("proc/net/sockstat6", "TCP6: inuse 17\nFRAG6: inuse 0 memory 5\n"),
        ],
        &[
            "node_sockstat_sockets_used 229",
            "node_sockstat_TCP_inuse 4",
            "node_sockstat_TCP_orphan 0",
            "node_sockstat_TCP_tw 4",
            "node_sockstat_TCP_alloc 17",
            "node_sockstat_TCP_mem 2",
            &mem_bytes,
            "node_sockstat_TCP6_inuse 17",
            "node_sockstat_FRAG6_inuse 0",
            "node_sockstat_FRAG6_memory 5",
        ],
    );
}

#[test]
fn softnet() {
    check(
        "softnet",
        &[(
            "proc/net/softnet_stat",
            "0000000a 00000001 00000002 0 0 0 0 0 00000003 00000004 00000005 00000006 00000009\n",
        )],
        &[
            r#"node_softnet_processed_total{cpu="9"} 10"#,
            r#"node_softnet_dropped_total{cpu="9"} 1"#,
            r#"node_softnet_times_squeezed_total{cpu="9"} 2"#,
            r#"node_softnet_cpu_collision_total{cpu="9"} 3"#,
            r#"node_softnet_received_rps_total{cpu="9"} 4"#,
            r#"node_softnet_flow_limit_count_total{cpu="9"} 5"#,
            r#"node_softnet_backlog_len{cpu="9"} 6"#,
        ],
    );
}

#[test]
fn conntrack() {
    let row = "21 0 1 0 3 588a 0 0 4 5 6 7 0  0 0 0 a\n";
    check(
        "conntrack",
        &[
            ("proc/sys/net/netfilter/nf_conntrack_count", "123\n"),
            ("proc/sys/net/netfilter/nf_conntrack_max", "65536\n"),
            ("proc/net/stat/nf_conntrack", &format!("entries  searched found\n{row}{row}")),
        ],
        &[
            "node_nf_conntrack_entries 123",
            "node_nf_conntrack_entries_limit 65536",
            "node_nf_conntrack_stat_found 2",
            "node_nf_conntrack_stat_invalid 6",
            "node_nf_conntrack_stat_ignore 45332",
            "node_nf_conntrack_stat_insert 8",
            "node_nf_conntrack_stat_insert_failed 10",
            "node_nf_conntrack_stat_drop 12",
            "node_nf_conntrack_stat_early_drop 14",
            "node_nf_conntrack_stat_search_restart 20",
        ],
    );
}
