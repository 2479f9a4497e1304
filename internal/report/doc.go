// Package report writes what was found and what was proven, for people and for machines: one file a format. It takes no
// clock and no environment: everything that a report says was handed to it, so the same input gives the same bytes.
//
// Two kinds of output share one set of rules. Write puts one validation into a format that a terminal, a pull request or
// another program reads. Document is the posture report: validation, attacks, gaps and exceptions on one page.
//
// The rules: what could not be judged is counted and named in every format and is never shown as good news; accepted
// findings are shown apart from those that stand, with the exception that accepts them; names that come from files and
// clusters are foreign, so no format lets one break out of its place; formats for people are bounded and say how much
// they left out, formats for programs are complete.
package report
