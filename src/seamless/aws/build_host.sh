#!/bin/bash
# Makes a fresh Debian host a build host. This is the user data of the template that `seamless host template` prints,
# which sets the values below it; root runs it at the first boot, and may run it again: what is right is left alone.
#
#   SOURCE        what pip installs: the URL of a wheel, or git+https://...
#   REGION        AWS's, where the host is
#   TARGET        where services are deployed: ecs or docker
#   VOLUME        the id of the data volume
#   WEBHOOK_HOST  the name under which GitHub reaches this host, or nothing
#   SSM_AGENT     the folder from which AWS gives out its Session Manager agent
#   SIGNAL_URL    where CloudFormation waits to be told how it went
#
# All output is in /var/log/cloud-init-output.log and on the instance's console.

set -euo pipefail
umask 022
export HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

data=/srv/seamless
config=/etc/seamless
state=/var/lib/seamless
step='it began'

say() { printf 'build-host: %s\n' "$*"; }

begin() {
    step=$1
    say "$step"
}

fail() {
    step="$step: $*"
    exit 1
}

# signal STATUS REASON: tells CloudFormation, which takes the first word only. A host that was set up by hand has no URL.
# By Python, which cloud-init needs as well: it is there before anything is installed.
signal() {
    [ -n "${SIGNAL_URL:-}" ] || return 0
    python3 - "$SIGNAL_URL" "$1" "$2" <<'END' || say 'CloudFormation could not be told; it takes only the first word'
import json, sys, time, urllib.request

url, status, reason = sys.argv[1:]
word = json.dumps({"Status": status, "Reason": reason[:400], "UniqueId": "build-host", "Data": ""})
request = urllib.request.Request(url, word.encode(), {"Content-Type": ""}, method="PUT")
for wait_s in (1, 5, 25, 0):
    try:
        urllib.request.urlopen(request, timeout=30)
        break
    except OSError as error:
        print(f"build-host: CloudFormation: {error}")
        if not wait_s:
            sys.exit(1)
        time.sleep(wait_s)
END
}

finish() {
    local code=$?
    if [ $code = 0 ]; then
        signal SUCCESS 'the agent runs'
    else
        say "failed with $code: $step"
        signal FAILURE "$step; see /var/log/cloud-init-output.log"
    fi
}
trap finish EXIT

apt() { apt-get -qq --yes -o DPkg::Lock::Timeout=600 -o Acquire::Retries=10 "$@" >/dev/null; }

# again COMMAND...: until it succeeds, ten times at most: the network may come up late, and others update packages too.
again() {
    local left
    for left in 9 8 7 6 5 4 3 2 1 0; do
        if "$@"; then return; fi
        [ "$left" = 0 ] || sleep 6
    done
    return 1
}

# write FILE: standard input becomes that file, unless it is already.
write() {
    local new
    new=$(cat)
    install -d "$(dirname "$1")"
    [ -f "$1" ] && [ "$(cat "$1")" = "$new" ] || printf '%s\n' "$new" >"$1"
}

# mount_at FOLDER WHAT HOW: mounts it there, now and, by a line of fstab, at each boot. A boot without the volume goes on, so that
# Session Manager works; engine and agent wait for their mounts.
mount_at() {
    install -d "$1"
    grep -q "^[^#]* $1 " /etc/fstab || printf '%s %s %s\n' "$2" "$1" "$3" >>/etc/fstab
    mountpoint -q "$1" || mount "$1"
}

: "${SOURCE:?}" "${REGION:?}" "${TARGET:?}" "${VOLUME:?}" "${SSM_AGENT:?}"

begin 'bringing the list of packages up to date'
again apt update
apt install --no-install-recommends ca-certificates curl e2fsprogs

begin "installing AWS's Session Manager agent"
if ! dpkg -s amazon-ssm-agent >/dev/null 2>&1; then
    curl -fsS --retry 10 --retry-connrefused -o /root/amazon-ssm-agent.deb \
        "$SSM_AGENT/debian_$(dpkg --print-architecture)/amazon-ssm-agent.deb"
    apt install /root/amazon-ssm-agent.deb
    rm /root/amazon-ssm-agent.deb
fi
systemctl enable --now amazon-ssm-agent

begin "mounting the data volume $VOLUME"
device=/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${VOLUME/-/}
deadline=$((SECONDS + 600))
until [ -b "$device" ]; do
    [ $SECONDS -lt $deadline ] || fail "there is no $device; instances of the Nitro system have it"
    sleep 2
done
found=$(blkid -p "$device") || [ $? = 2 ] || fail "blkid does not understand $device"
if [ -z "$found" ]; then # never over anything that is there
    mkfs.ext4 -q -L seamless "$device"
fi
mount_at $data "$device" 'ext4 defaults,nofail,x-systemd.device-timeout=60 0 2'
install -d $data/etc $data/state
mount_at $config $data/etc "none bind,nofail,x-systemd.requires-mounts-for=$data 0 0"
mount_at $state $data/state "none bind,nofail,x-systemd.requires-mounts-for=$data 0 0"
write /etc/systemd/system/docker.service.d/data-volume.conf <<END
[Unit]
RequiresMountsFor=$data
END
write /etc/systemd/system/seamless.service.d/data-volume.conf <<END
[Unit]
RequiresMountsFor=$config $state
END

begin 'installing the Docker Engine, git and pipx'
# Containers outlive a restart of the engine, as after an upgrade; their logs and the build cache stay bounded.
write /etc/docker/daemon.json <<END
{
  "data-root": "$data/docker",
  "live-restore": true,
  "log-driver": "json-file",
  "log-opts": {"max-size": "10m", "max-file": "3"},
  "builder": {"gc": {"enabled": true, "defaultKeepStorage": "20GB"}}
}
END
write /etc/apt/apt.conf.d/20auto-upgrades <<'END'
APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";
END
packages=(busybox-static docker.io docker-compose git pipx unattended-upgrades)
for package in docker-cli docker-buildx; do # packages of their own since Debian 13
    if apt-cache show "$package" >/dev/null 2>&1; then packages+=("$package"); fi
done
if [ -n "${WEBHOOK_HOST:-}" ]; then packages+=(caddy); fi
apt install --no-install-recommends "${packages[@]}"

begin "installing Seamless from $SOURCE"
PIPX_HOME=/opt/pipx PIPX_BIN_DIR=/usr/local/bin pipx install --force "$SOURCE"
seamless --version

begin 'configuring it'
if [ ! -e $config/config.toml ]; then # one that came with the volume stays
    answers=(--yes --region "$REGION" --target "$TARGET")
    if [ -n "${WEBHOOK_HOST:-}" ]; then
        answers+=(--forge github --webhooks "https://$WEBHOOK_HOST")
    fi
    seamless init "${answers[@]}"
fi

begin 'starting the agent'
seamless agent install
seamless doctor || say 'the doctor has something to say; the host works on'

if [ -n "${WEBHOOK_HOST:-}" ]; then
    begin "opening https://$WEBHOOK_HOST for webhooks"
    # Only port 443 is open, so the certificate is asked for there too.
    write /etc/caddy/Caddyfile <<END
{
	auto_https disable_redirects
}

$WEBHOOK_HOST {
	tls {
		issuer acme {
			disable_http_challenge
		}
	}
	handle /webhooks/* {
		reverse_proxy 127.0.0.1:8787
	}
	handle {
		respond 404
	}
}
END
    caddy validate --adapter caddyfile --config /etc/caddy/Caddyfile
    systemctl restart caddy
fi

begin 'done'
