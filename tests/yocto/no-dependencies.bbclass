# What do_package needs when there is nothing but the recipe.

# Called under `bitbake -b`, and oe-core no longer has it. Without other recipes' packages it has nothing to do.
def staging_package_populate_pkgdata_dir(pkgdatadir, d):
    bb.utils.mkdirhier(pkgdatadir)

# Only pseudo can give files to root.
python () {
    import oe.package
    oe.package.fixup_perms = lambda d: None
}
