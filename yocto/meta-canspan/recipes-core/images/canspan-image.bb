# nooelint: oelint.var.suggestedvar.CVE_PRODUCT - an image is no product of which there are reports
SUMMARY = "A CAN gateway, small"
DESCRIPTION = "An example: core-image-minimal with the packagegroup-canspan, and an ssh server"
SECTION = "network"
LICENSE = "MIT"

inherit core-image

# canspan listens on loopback only; peers come through ssh.
IMAGE_FEATURES += "ssh-server-dropbear"
IMAGE_INSTALL = "\
    ${CORE_IMAGE_EXTRA_INSTALL} \
    packagegroup-canspan \
    packagegroup-core-boot \
"
IMAGE_LINGUAS = ""
