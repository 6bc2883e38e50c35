import Glibc
import Swiftlet
import Training

/// Lines of numbers as characters, each line with a letter of its own.
struct TextChart {
  /// A line: its letter and its points from left to right.
  struct Series {
    var letter: Character
    var points: [(x: Double, y: Double)]
  }

  var series: [Series]
  var columns = 72
  var rows = 16
  /// Whether each letter has a colour.
  var isColoured = false

  /// The chart with its axes; empty when no line has a point.
  var text: String {
    let points = series.flatMap(\.points).filter { $0.x.isFinite && $0.y.isFinite }
    guard let left = points.map(\.x).min(), let right = points.map(\.x).max(), let low = points.map(\.y).min(),
      let high = points.map(\.y).max()
    else { return "" }
    let (spanX, spanY) = (right > left ? right - left : 1, high > low ? high - low : 1)
    var cells = [[Int?]](repeating: [Int?](repeating: nil, count: columns), count: rows)
    for (index, series) in series.enumerated() {
      // A column shows the mean of what falls into it; between two columns with points, a straight line.
      var sums = [(sum: Double, count: Int)](repeating: (0, 0), count: columns)
      for point in series.points where point.x.isFinite && point.y.isFinite {
        let column = Int(((point.x - left) / spanX * Double(columns - 1)).rounded())
        sums[column].sum += point.y
        sums[column].count += 1
      }
      let filled = sums.indices.filter { sums[$0].count > 0 }
      func mean(_ column: Int) -> Double { sums[column].sum / Double(sums[column].count) }
      for (place, column) in filled.enumerated() {
        let next = place + 1 < filled.count ? filled[place + 1] : column + 1
        for between in column..<next {
          let share = Double(between - column) / Double(next - column)
          let value = place + 1 < filled.count ? mean(column) * (1 - share) + mean(next) * share : mean(column)
          let row = Int(((high - value) / spanY * Double(rows - 1)).rounded())
          cells[min(max(row, 0), rows - 1)][between] = index
        }
      }
    }
    var text = ""
    for (row, line) in cells.enumerated() {
      let value = high - spanY * Double(row) / Double(rows - 1)
      let label = row % 5 == 0 || row == rows - 1 ? Formatting.fixed(value, spanY < 0.5 ? 3 : 2) : ""
      text += String(repeating: " ", count: max(0, 9 - label.count)) + label + " │"
      var shown = ""
      for cell in line { shown += cell.map(letter) ?? " " }
      text += shown + "\n"
    }
    let (first, last) = (Formatting.fixed(left, 0), Formatting.fixed(right, 0))
    text += String(repeating: " ", count: 10) + "└" + String(repeating: "─", count: columns) + "\n"
    text += String(repeating: " ", count: 11) + first
    text += String(repeating: " ", count: max(1, columns - first.count - last.count)) + last + "\n"
    return text
  }

  private func letter(_ index: Int) -> String {
    guard isColoured else { return String(series[index].letter) }
    return "\u{1B}[\(31 + index % 6)m\(series[index].letter)\u{1B}[0m"
  }
}
