// The header fields of a message, by lower-case name.

export type Headers = Readonly<Record<string, string | string[] | undefined>>
