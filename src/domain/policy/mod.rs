//! Which policies apply to a grant, and whether they permit it. Pure and total.
