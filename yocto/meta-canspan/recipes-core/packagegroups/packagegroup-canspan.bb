SUMMARY = "A CAN board that carries its buses over TCP"
DESCRIPTION = "\
    canspan, the tool that configures CAN interfaces, and the drivers of common controllers and USB adapters \
    where the kernel has them as modules. \
"
SECTION = "network"

inherit packagegroup

# busybox's ip cannot configure a CAN interface.
RDEPENDS:${PN} = "\
    canspan \
    iproute2 \
"
RRECOMMENDS:${PN} = "\
    kernel-module-gs-usb \
    kernel-module-kvaser-usb \
    kernel-module-mcp251x \
    kernel-module-mcp251xfd \
    kernel-module-peak-usb \
"
