/// Bars side by side as SVG: a histogram of lengths.
struct BarChart {
  /// What the picture shows, for those who do not see it.
  var title: String
  /// A name below each bar, and its height.
  var bars: [(name: String, count: Int)]

  /// The chart; empty without bars.
  var svg: String {
    guard let most = bars.map(\.count).max(), most > 0 else { return "" }
    let (width, height, bottom) = (640.0, 200.0, 24.0)
    let step = width / Double(bars.count)
    var body = ""
    for (index, bar) in bars.enumerated() {
      let size = (height - bottom - 18) * Double(bar.count) / Double(most)
      let x = Double(index) * step
      func place(_ value: Double) -> String { ((value * 10).rounded() / 10).description }
      body += "<rect class=\"bar\" x=\"\(place(x + step * 0.1))\" y=\"\(place(height - bottom - size))\" "
      body += "width=\"\(place(step * 0.8))\" height=\"\(place(size))\" rx=\"2\"><title>"
      body += "up to \(escapedHTML(bar.name)) tokens: \(bar.count)</title></rect>"
      body += "<text class=\"tick\" x=\"\(place(x + step / 2))\" y=\"\(place(height - 6))\" text-anchor=\"middle\">"
      body += "\(escapedHTML(bar.name))</text>"
      body += "<text class=\"tick\" x=\"\(place(x + step / 2))\" y=\"\(place(height - bottom - size - 5))\" "
      body += "text-anchor=\"middle\">\(bar.count)</text>"
    }
    return "<svg viewBox=\"0 0 640 200\" role=\"img\" aria-label=\"\(escapedHTML(title))\">\(body)</svg>"
  }
}
