/// A row of a CSV or TSV file as its fields (RFC 4180).
enum TableRow {
  /// The fields of a row without its line break; `nil` where a quote stands inside an unquoted field or text follows a
  /// quoted one.
  static func fields(_ row: [UInt8], separator: UInt8) -> [[UInt8]]? {
    let quote = UInt8(ascii: "\"")
    var fields: [[UInt8]] = []
    var position = 0
    while true {
      var field: [UInt8] = []
      if position < row.count, row[position] == quote {
        position += 1
        while true {
          guard let end = row[position...].firstIndex(of: quote) else { return nil }
          field += row[position..<end]
          position = end + 1
          guard position < row.count, row[position] == quote else { break }
          field.append(quote)
          position += 1
        }
        guard position == row.count || row[position] == separator else { return nil }
      } else {
        let end = row[position...].firstIndex(of: separator) ?? row.count
        guard !row[position..<end].contains(quote) else { return nil }
        field += row[position..<end]
        position = end
      }
      fields.append(field)
      if position == row.count { return fields }
      position += 1
    }
  }
}
