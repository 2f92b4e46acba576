// Header fields of an HTTP message, by lower-case name.

export type Headers = Readonly<Record<string, string | string[] | undefined>>
