#!/bin/bash
# Makes the units of tests/lab/run on a host of the lab, and waits until they are what they shall be.
set -euo pipefail
cd /etc/systemd/system
unit() { cat >"$1"; }

unit lab-fails.service <<'U'
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'exit 7'
U
unit lab-works.service <<'U'
[Service]
Type=oneshot
ExecStart=/bin/true
U
unit lab-crashes.service <<'U'
[Unit]
StartLimitIntervalSec=60
StartLimitBurst=4
[Service]
ExecStart=/bin/sh -c 'exit 3'
Restart=on-failure
RestartSec=100ms
U
# Runs long after the test, and has run once.
unit lab-often.timer <<'U'
[Timer]
OnActiveSec=100ms
OnUnitInactiveSec=1h
AccuracySec=1ms
Unit=lab-works.service
U
unit lab-daily.timer <<'U'
[Timer]
OnCalendar=*-*-* 03:30:00
AccuracySec=1ms
Unit=lab-works.service
U
unit lab-echo.socket <<'U'
[Socket]
ListenStream=127.0.0.1:7007
Accept=yes
U
unit lab-echo@.service <<'U'
[Service]
ExecStart=/bin/cat
StandardInput=socket
U
unit lab-watched.service <<'U'
[Service]
Type=notify
NotifyAccess=all
WatchdogSec=20
TasksMax=64
CPUAccounting=yes
MemoryAccounting=yes
ExecStart=/bin/bash -c 'sleep 10000 & sleep 10000 & systemd-notify --ready; while systemd-notify WATCHDOG=1; do sleep 5; done'
U
unit srv-lab.mount <<'U'
[Mount]
What=/dev/null
Where=/srv/lab
Type=ext4
U

systemctl daemon-reload
systemctl start lab-often.timer lab-daily.timer lab-echo.socket lab-watched.service
for failing in lab-fails.service lab-crashes.service srv-lab.mount; do systemctl start "$failing" || true; done
# Two that come and go, one that stays.
for _ in 1 2; do
  exec 3<>/dev/tcp/127.0.0.1/7007
  exec 3>&-
done
setsid bash -c 'exec 3<>/dev/tcp/127.0.0.1/7007; exec sleep 10000' </dev/null >/dev/null 2>&1 &
shown() { systemctl show --value -p "$2" "$1"; }
for _ in $(seq 100); do
  [ "$(shown lab-crashes.service ActiveState)" = failed ] &&
    [ "$(shown lab-echo.socket NAccepted)" = 3 ] && [ "$(shown lab-echo.socket NConnections)" = 1 ] &&
    [ "$(shown lab-often.timer LastTriggerUSec)" != n/a ] && [ "$(shown lab-works.service ActiveState)" = inactive ] && exit 0
  sleep 0.1
done
systemctl list-units --all --no-pager 'lab-*' 'srv-lab*'
exit 1
