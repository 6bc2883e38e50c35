import Testing

@testable import SwiftletCLI

@Suite struct FormattingTests {
  @Test func fixed() {
    #expect(Formatting.fixed(1.005, 1) == "1.0")
    #expect(Formatting.fixed(-0.04, 1) == "0.0")
    #expect(Formatting.fixed(-1.26, 1) == "-1.3")
    #expect(Formatting.fixed(12.0304, 3) == "12.030")
    #expect(Formatting.fixed(0.9999, 2) == "1.00")
    #expect(Formatting.fixed(.nan, 2) == "nan")
    #expect(Formatting.fixed(-.infinity, 2) == "-inf")
    #expect(Formatting.fixed(1e300, 4) == "1e+300")
  }

  @Test func scientific() {
    #expect(Formatting.scientific(2e-4) == "2.00e-04")
    #expect(Formatting.scientific(9.999e-5) == "1.00e-04")
    #expect(Formatting.scientific(0) == "0")
    #expect(Formatting.scientific(1) == "1.00e00")
    #expect(Formatting.scientific(.nan) == "nan")
  }

  @Test func countsBytesAndDurations() {
    #expect(Formatting.count(999) == "999")
    #expect(Formatting.count(1_234_567.4) == "1,234,567")
    #expect(Formatting.count(-1000) == "-1,000")
    #expect(Formatting.count(.infinity) == "inf")
    #expect(Formatting.bytes(1000) == "1000 B")
    #expect(Formatting.bytes(1536) == "1.50 KiB")
    #expect(Formatting.bytes(24 << 30) == "24.0 GiB")
    #expect(Formatting.bytes(300 << 20) == "300 MiB")
    #expect(Formatting.duration(59.4) == "59s")
    #expect(Formatting.duration(59.6) == "1m00s")
    #expect(Formatting.duration(7650) == "2h07m")
    #expect(Formatting.duration(.nan) == "?")
  }
}
