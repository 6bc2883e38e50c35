import JSONValues

/// One file of a dataset.
public struct DatasetSource: Sendable {
  /// Path of the file; `-` for standard input.
  public let path: String
  /// How often an epoch sees its samples.
  public let weight: Double
  /// What its records look like.
  public let format: DatasetFormat
  /// How its records are told apart.
  public let layout: RecordLayout
  /// How it is compressed.
  public let compression: Compression
  /// Keys of the first record that the format does not read.
  public let unusedKeys: [String]
  /// Where its bytes are.
  let file: String
  private let keeper: StandardInputFile?
  private let columns: [String]
  private let firstLine: Int
  private let options: Dataset.Options
  private let recordLimit: Int
  private let pieceBytes: Int

  init(_ data: DataFile, _ options: Dataset.Options, recordLimit: Int, pieceBytes: Int) throws(DatasetError) {
    path = data.path
    weight = data.weight
    self.options = options
    self.recordLimit = recordLimit
    self.pieceBytes = pieceBytes
    keeper = data.path == "-" || data.path.hasPrefix("-.") ? try StandardInputFile() : nil
    file = keeper?.file ?? data.path
    let peek = try RecordReader(file: file, path: path, layout: .lines, limit: recordLimit)
    compression = peek.compression
    guard let first = try peek.firstByte() else { throw Self.empty(data.path) }
    layout = try Self.layout(of: data.path, first: first, options)
    let reader = try RecordReader(file: file, path: path, layout: layout, limit: recordLimit, pieceBytes: pieceBytes)
    if layout == .document {
      (format, unusedKeys, columns, firstLine) = (.document, [], [], 1)
      return
    }
    if case .table(let separator) = layout {
      columns = try Self.columns(reader, separator, path)
    } else {
      columns = []
    }
    guard let record = try reader.next() else { throw Self.empty(data.path) }
    firstLine = record.line
    let object = try Self.object(record, layout, columns, options, path)
    switch options.format.format(of: object).map({ .success($0) }) ?? DatasetFormat.recognise(object) {
    case .success(let found): format = found
    case .failure(let problem): throw DatasetError(path: path, line: record.line, problem.message)
    }
    let used = format.keys
    unusedKeys = object.keys.filter { !used.contains($0) }
  }

  /// The file's format in one line.
  public var description: String {
    var words = ["\(path): \(format.description)"]
    if layout != .document { words.append(layout.description) }
    if compression != .none { words.append(compression.rawValue) }
    if weight != 1 { words.append("\(weight) × an epoch") }
    let unused = unusedKeys.isEmpty ? "" : " (not used: \(unusedKeys.prefix(8).map(quoted).joined(separator: ", ")))"
    return words.joined(separator: ", ") + unused
  }

  /// How the file's bytes become samples, for the cache.
  var reading: String {
    let fields = options.fields.fields.map { "\($0.name)=\($0.key)" }.joined(separator: "\n")
    return "\(format.rawValue) \(options.format.rawValue) \(layout.description) \(compression.rawValue)\n\(fields)"
  }

  /// Reads the file from its beginning, a table without its row of names.
  func makeReader() throws(DatasetError) -> RecordReader {
    let reader = try RecordReader(file: file, path: path, layout: layout, limit: recordLimit, pieceBytes: pieceBytes)
    if case .table = layout { _ = try reader.next() }
    return reader
  }

  /// Reads and checks a record.
  func sample(_ record: RawRecord, isFirst: Bool) throws(DatasetError) -> DatasetSample {
    if format == .document {
      guard let text = String(validating: record.bytes, as: UTF8.self) else {
        throw DatasetError(path: path, line: record.line + lineOfInvalidText(record.bytes), "the text is not UTF-8")
      }
      return .document(text, continues: !isFirst, isContinued: !record.isLast)
    }
    let object = try Self.object(record, layout, columns, options, path)
    switch options.format.format(of: object).map({ .success($0) }) ?? DatasetFormat.recognise(object) {
    case .success(let found) where found != format:
      throw DatasetError(
        path: path, line: record.line,
        "the record is \(found.description), but the file began as \(format.description) at line \(firstLine)")
    case .failure(let problem): throw DatasetError(path: path, line: record.line, problem.message)
    case .success: break
    }
    do {
      return try DatasetSample(object, as: format)
    } catch {
      throw DatasetError(path: path, line: record.line, error.message)
    }
  }

  // MARK: Reading records

  private static func empty(_ path: String) -> DatasetError {
    DatasetError(path: path, "the file is empty; it needs at least one record")
  }

  /// What the name and the first byte say; a text without records is one document.
  private static func layout(of path: String, first: UInt8, _ options: Dataset.Options) throws(DatasetError)
    -> RecordLayout
  {
    switch DataFile.ending(path) {
    case "txt" where options.format == .auto || options.format == .text: return .document
    case "csv": return .table(separator: UInt8(ascii: ","))
    case "tsv": return .table(separator: UInt8(ascii: "\t"))
    default: break
    }
    if first == UInt8(ascii: "[") { return .array }
    if first == UInt8(ascii: "{") { return .lines }
    if options.format == .text { return .document }
    throw DatasetError(
      path: path, line: 1,
      "neither JSON records (`{` or `[` at the start) nor a .csv, .tsv or .txt file; --format text reads it as plain text"
    )
  }

  private static func columns(_ reader: RecordReader, _ separator: UInt8, _ path: String) throws(DatasetError)
    -> [String]
  {
    guard let header = try reader.next() else { throw empty(path) }
    var names: [String] = []
    for field in TableRow.fields(header.bytes, separator: separator) ?? [] {
      guard let name = String(validating: field, as: UTF8.self) else {
        throw DatasetError(path: path, line: header.line, "the names of the columns are not UTF-8")
      }
      guard !names.contains(name) else {
        throw DatasetError(path: path, line: header.line, "two columns have the name \(quoted(name))")
      }
      names.append(name)
    }
    if names.isEmpty {
      throw DatasetError(path: path, line: header.line, "the row of names is malformed: a quote stands where none may")
    }
    return names
  }

  /// The record under the names that formats read.
  private static func object(
    _ record: RawRecord, _ layout: RecordLayout, _ columns: [String], _ options: Dataset.Options, _ path: String
  ) throws(DatasetError) -> JSONObject {
    let object: JSONObject
    if case .table(let separator) = layout {
      object = try row(record, separator, columns, path)
    } else {
      object = try parsed(record, layout, path)
    }
    do {
      return try options.fields.apply(to: object)
    } catch {
      throw DatasetError(path: path, line: record.line, error.message)
    }
  }

  private static func parsed(_ record: RawRecord, _ layout: RecordLayout, _ path: String) throws(DatasetError)
    -> JSONObject
  {
    let value: JSONValue
    do {
      value = try JSONValue.parse(record.bytes, options: .init(refusesDuplicateKeys: true))
    } catch {
      let hint =
        layout == .lines && record.line == 1 && DataFile.ending(path) == "json"
        ? " (a .json file is one array of records, or has a whole record on every line)" : ""
      throw DatasetError(
        path: path, line: record.line + error.line - 1, "column \(error.column): \(error.message)\(hint)")
    }
    guard let object = value.object else {
      throw DatasetError(path: path, line: record.line, "a record must be a JSON object, this is \(value.kind)")
    }
    return object
  }

  /// Keys whose field may hold a list or an object as JSON.
  private static let structuredKeys: Set<String> = [
    "messages", "conversations", "prompt", "completion", "chosen", "rejected",
  ]

  private static func row(_ record: RawRecord, _ separator: UInt8, _ columns: [String], _ path: String)
    throws(DatasetError) -> JSONObject
  {
    guard let fields = TableRow.fields(record.bytes, separator: separator) else {
      throw DatasetError(
        path: path, line: record.line,
        "a quote stands where none may; a field with quotes is quoted, its quotes doubled")
    }
    guard fields.count == columns.count else {
      throw DatasetError(
        path: path, line: record.line, "the row has \(fields.count) fields, the first row names \(columns.count)")
    }
    var object = JSONObject()
    for (name, field) in zip(columns, fields) {
      guard let text = String(validating: field, as: UTF8.self) else {
        throw DatasetError(path: path, line: record.line, "the field \(quoted(name)) is not UTF-8")
      }
      if structuredKeys.contains(name), field.first == UInt8(ascii: "[") || field.first == UInt8(ascii: "{"),
        let value = try? JSONValue.parse(field), value.object != nil || value[0]?.object != nil
      {
        object[name] = value
      } else {
        object[name] = .string(text)
      }
    }
    return object
  }
}

/// How many lines stand before the first bytes that are not UTF-8.
private func lineOfInvalidText(_ bytes: [UInt8]) -> Int {
  var line = 0
  for piece in bytes.split(separator: 0x0A, omittingEmptySubsequences: false) {
    if String(validating: piece, as: UTF8.self) == nil { return line }
    line += 1
  }
  return line
}
