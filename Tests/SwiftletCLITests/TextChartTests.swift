import Testing

@testable import SwiftletCLI

@Suite struct TextChartTests {
  @Test func linesGoWhereTheirNumbersAre() {
    let falling = TextChart.Series(letter: "A", points: (0...10).map { (x: Double($0), y: Double(10 - $0)) })
    let level = TextChart.Series(letter: "B", points: [(0, 5), (10, 5)])
    let lines = TextChart(series: [falling, level], columns: 11, rows: 11).text.split(separator: "\n")
    #expect(lines.count == 13)
    for row in 0..<11 {
      let cells = Array(lines[row].drop { $0 != "│" }.dropFirst())
      for column in 0..<11 {
        let expected: Character = row == 5 ? "B" : column == row ? "A" : " "
        #expect(cells[column] == expected, "row \(row), column \(column)")
      }
    }
    #expect(lines[0].hasPrefix("    10.00 │") && lines[10].hasPrefix("     0.00 │"))
    #expect(lines[12].hasSuffix("10"))
  }

  @Test func oddNumbersAreNoTrouble() {
    #expect(TextChart(series: []).text.isEmpty)
    #expect(TextChart(series: [.init(letter: "A", points: [(.nan, 1), (1, .infinity)])]).text.isEmpty)
    #expect(TextChart(series: [.init(letter: "A", points: [(3, 2)])]).text.contains("A"))
    let coloured = TextChart(series: [.init(letter: "A", points: [(0, 1), (1, 2)])], isColoured: true).text
    #expect(coloured.contains("\u{1B}[31mA\u{1B}[0m"))
  }

  @Test func columnsAreAligned() {
    let text = TextTable([["", "run", "loss"], ["A", "a", "1.5"], ["B", String(repeating: "x", count: 60), "10.25"]])
      .text
    let lines = text.split(separator: "\n")
    #expect(lines.count == 3)
    #expect(Set(lines.map(\.count)).count == 1)
    #expect(lines[2].contains("…") && lines[1].hasSuffix("   1.5"))
  }
}
