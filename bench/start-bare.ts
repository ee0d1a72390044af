// Nothing: what a bare start of Node costs.
export {}
