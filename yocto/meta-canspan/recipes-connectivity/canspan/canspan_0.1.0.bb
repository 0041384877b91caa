SUMMARY = "Carries a CAN bus over TCP"
SUMMARY:${PN}-avahi = "Lets Avahi tell the network of this canspan"
SUMMARY:${PN}-dnssd = "Lets systemd-resolved tell the network of this canspan"
SUMMARY:${PN}-fish-completion = "What fish completes after canspan"
SUMMARY:${PN}-network = "Bit rate of CAN interfaces, for systemd-networkd"
SUMMARY:${PN}-zsh-completion = "What zsh completes after canspan"
DESCRIPTION = "\
    A gateway for CAN buses: a board in the field owns the real bus, a PC gets the same bus as a local interface, \
    and nothing is lost, doubled, reordered or stale in silence. \
"
SECTION = "network"
# Ours is MIT or Apache-2.0; the rest is what the crates inside the binary ask for.
LICENSE = "(Apache-2.0 | MIT) & BSD-3-Clause & MIT"
LIC_FILES_CHKSUM = "\
    file://LICENSE-APACHE;md5=22a53954e4e0ec258dfce4391e905dac \
    file://LICENSE-MIT;md5=1fc35b29b75b684c5d68df5234993641 \
    file://${CARGO_VENDORING_DIRECTORY}/argh-0.1.19/LICENSE;md5=b250d14fc7456481876836ddff991108 \
    file://${CARGO_VENDORING_DIRECTORY}/argh_shared-0.1.19/LICENSE;md5=b250d14fc7456481876836ddff991108 \
    file://${CARGO_VENDORING_DIRECTORY}/neli-0.7.5/LICENSE;md5=f4b2294d123ea55d8e9a3ab48a7751c0 \
"
CVE_PRODUCT = "canspan"

# The source is the checkout that this layer stands in, so that a clone builds as it is. Where the layer stands
# alone, set CANSPAN_SRC_URI to a git URI and SRCREV:pn-canspan to a commit.
CANSPAN_SRC_URI ?= "\
    file://Cargo.lock;subdir=${BP} \
    file://Cargo.toml;subdir=${BP} \
    file://LICENSE-APACHE;subdir=${BP} \
    file://LICENSE-MIT;subdir=${BP} \
    file://completions;subdir=${BP} \
    file://examples;subdir=${BP} \
    file://man;subdir=${BP} \
    file://src;subdir=${BP} \
    file://systemd;subdir=${BP} \
    file://tests;subdir=${BP} \
"
SRC_URI = "${CANSPAN_SRC_URI}"

# canspan@.service is enabled for each of these interfaces. Two of them need ports of their own, see README.md.
CANSPAN_INSTANCES ?= "can0"
# canspan-connect@.service is enabled for each of these peers.
# nooelint: oelint.vars.mispell.unknown
CANSPAN_CONNECT_INSTANCES ?= ""
# Of the CAN interfaces, as systemd-networkd wants it said.
CANSPAN_BITRATE ?= "500K"

require ${BPN}-crates.inc

inherit bash-completion cargo cargo-update-recipe-crates systemd

# nooelint: oelint.vars.fileextrapaths,oelint.vars.outofcontext - the source is above the layer
FILESEXTRAPATHS:prepend := "${THISDIR}/../../../..:"

SYSTEMD_SERVICE:${PN} = "\
    ${@' '.join('canspan@%s.service' % i for i in d.getVar('CANSPAN_INSTANCES').split())} \
    ${@' '.join('canspan-connect@%s.service' % i for i in d.getVar('CANSPAN_CONNECT_INSTANCES').split())} \
"

# The package's own split takes the symbols out, for the -dbg package.
export CARGO_PROFILE_RELEASE_STRIP = "false"

do_install:append() {
    install -d ${D}${systemd_unitdir}/network
    sed 's/^BitRate=.*/BitRate=${CANSPAN_BITRATE}/' ${S}/systemd/80-can.network > ${D}${systemd_unitdir}/network/80-can.network
    install -D -m 0644 -t ${D}${systemd_system_unitdir} ${S}/systemd/canspan@.service ${S}/systemd/canspan-connect@.service
    install -D -m 0644 ${S}/systemd/60-canspan.sysctl.conf ${D}${nonarch_libdir}/sysctl.d/60-canspan.conf
    install -D -m 0644 ${S}/systemd/canspan.avahi.service ${D}${sysconfdir}/avahi/services/canspan.service
    install -D -m 0644 ${S}/systemd/canspan.dnssd ${D}${sysconfdir}/systemd/dnssd/canspan.dnssd
    install -D -m 0644 -t ${D}${docdir}/${BPN} ${S}/systemd/*.example ${S}/systemd/canspan-bitrate.conf

    install -D -m 0644 -t ${D}${mandir}/man1 ${S}/man/canspan.1
    install -D -m 0644 -t ${D}${mandir}/man7 ${S}/man/canspan-protocol.7
    install -D -m 0644 -t ${D}${mandir}/man8 ${S}/man/canspan@.8
    install -D -m 0644 ${S}/completions/canspan.bash ${D}${datadir}/bash-completion/completions/canspan
    install -D -m 0644 -t ${D}${datadir}/zsh/site-functions ${S}/completions/_canspan
    install -D -m 0644 -t ${D}${datadir}/fish/vendor_completions.d ${S}/completions/canspan.fish

    install -d ${D}${sysconfdir}/canspan
    for settings in ${CANSPAN_INSTANCES} ${@' '.join('connect-' + i for i in d.getVar('CANSPAN_CONNECT_INSTANCES').split())}; do
        if [ -e ${UNPACKDIR}/$settings.conf ]; then
            install -m 0644 -t ${D}${sysconfdir}/canspan ${UNPACKDIR}/$settings.conf
        fi
    done
}

PACKAGE_BEFORE_PN += "${PN}-avahi ${PN}-dnssd ${PN}-fish-completion ${PN}-network ${PN}-zsh-completion"

FILES:${PN}-avahi += "${sysconfdir}/avahi"
FILES:${PN}-dnssd += "${sysconfdir}/systemd/dnssd"
FILES:${PN}-fish-completion += "${datadir}/fish"
FILES:${PN}-network += "${systemd_unitdir}/network"
FILES:${PN}-zsh-completion += "${datadir}/zsh"
# Both units are there to be enabled by hand, too.
FILES:${PN} += "${nonarch_libdir}/sysctl.d ${systemd_system_unitdir}"
CONFFILES:${PN} = "${sysconfdir}/canspan"

RRECOMMENDS:${PN}-avahi += "avahi-daemon"
# Modules that the kernel has built in are not missed.
RRECOMMENDS:${PN} += "\
    ${PN}-network \
    kernel-module-can \
    kernel-module-can-dev \
    kernel-module-can-raw \
    kernel-module-vcan \
"
