RDEPENDS:${PN}:append = " can-utils"
