import JSONValues
import ModelFiles

/// The samples of one or several data files, read on demand from the mapped files.
///
/// Opening a file finds its records and the format of the first one; every record is checked when it is read. Every error
/// names the file and the line.
public final class Dataset: Sendable {
  /// One file of a dataset.
  public struct Source: Sendable {
    /// Path of the file.
    public let path: String
    /// What its records look like.
    public let format: DatasetFormat
    /// Number of its records.
    public let count: Int
    /// Keys of the first record that the format does not read.
    public let unusedKeys: [String]
    let file: MappedFile
    let records: [RecordIndex.Record]
  }

  /// The files, in the order given.
  public let sources: [Source]
  /// Number of samples in all files.
  public let count: Int
  private let firstSamples: [Int]

  /// Opens `.jsonl`, `.json` and `.txt` files; an empty one is an error.
  public convenience init(paths: [String]) throws {
    try self.init(paths: paths, recordLimit: RecordIndex.maximumRecordBytes)
  }

  init(paths: [String], recordLimit: Int) throws {
    guard !paths.isEmpty else { throw DatasetError(path: "data", "no data file was given") }
    sources = try paths.map { try Source(path: $0, recordLimit: recordLimit) }
    var total = 0
    firstSamples = sources.map { source in
      defer { total += source.count }
      return total
    }
    count = total
  }

  /// Sample `index`, counted over all files.
  public func sample(_ index: Int) throws -> DatasetSample {
    let (source, record) = place(of: index)
    return try source.sample(record)
  }

  /// File and line of a sample, for messages.
  public func location(ofSample index: Int) -> (path: String, line: Int) {
    let (source, record) = place(of: index)
    return (source.path, source.records[record].line)
  }

  /// The files with their formats, one line each.
  public var description: String {
    sources.map { source in
      let records = source.format == .document ? "" : ", \(source.count) record\(source.count == 1 ? "" : "s")"
      let unused =
        source.unusedKeys.isEmpty
        ? "" : " (not used: \(source.unusedKeys.prefix(8).map(quoted).joined(separator: ", ")))"
      return "\(source.path): \(source.format.description)\(records)\(unused)"
    }.joined(separator: "\n")
  }

  private func place(of index: Int) -> (Source, record: Int) {
    var source = sources.count - 1
    while source > 0, firstSamples[source] > index { source -= 1 }
    return (sources[source], index - firstSamples[source])
  }
}

extension Dataset.Source {
  init(path: String, recordLimit: Int) throws {
    let file = try MappedFile(path: path)
    let bytes = file.bytes
    guard let first = RecordIndex.firstByte(of: bytes) else {
      throw DatasetError(path: path, "the file is empty; it needs at least one record")
    }
    self.path = path
    self.file = file
    guard try Self.holdsRecords(path: path, first: first) else {
      format = .document
      unusedKeys = []
      count = 1
      records = [.init(start: RecordIndex.byteOrderMark(bytes), count: bytes.count, line: 1)]
      return
    }
    let index =
      first == UInt8(ascii: "[")
      ? try RecordIndex.arrayElements(of: bytes, path: path, limit: recordLimit)
      : try RecordIndex.lines(of: bytes, path: path, limit: recordLimit)
    guard let record = index.records.first else {
      throw DatasetError(path: path, "the file is empty; it needs at least one record")
    }
    let object = try Self.object(bytes, record, path)
    switch DatasetFormat.recognise(object) {
    case .success(let found): format = found
    case .failure(let problem): throw DatasetError(path: path, line: record.line, problem.message)
    }
    let used = format.keys
    unusedKeys = object.keys.filter { !used.contains($0) }
    records = index.records
    count = index.records.count
  }

  /// Reads and checks record `record`.
  func sample(_ record: Int) throws -> DatasetSample {
    let place = records[record]
    if format == .document {
      let bytes = UnsafeRawBufferPointer(rebasing: file.bytes[place.start...])
      guard let text = String(validating: bytes, as: UTF8.self) else {
        throw DatasetError(path: path, line: firstInvalidLine(bytes), "the text is not UTF-8")
      }
      return .document(text)
    }
    let object = try Self.object(file.bytes, place, path)
    switch DatasetFormat.recognise(object) {
    case .success(let found) where found != format:
      throw DatasetError(
        path: path, line: place.line,
        "the record is \(found.description), but the file began as \(format.description) at line \(records[0].line)")
    case .failure(let problem): throw DatasetError(path: path, line: place.line, problem.message)
    case .success: break
    }
    do {
      return try DatasetSample(object, as: format)
    } catch {
      throw DatasetError(path: path, line: place.line, error.message)
    }
  }

  /// Whether the file holds JSON records; a text file holds one document.
  private static func holdsRecords(path: String, first: UInt8) throws(DatasetError) -> Bool {
    let name = path.split(separator: "/").last.map(String.init) ?? path
    let ending = name.split(separator: ".").dropFirst().last?.lowercased()
    if ending == "txt" { return false }
    if first == UInt8(ascii: "{") || first == UInt8(ascii: "[") { return true }
    throw DatasetError(
      path: path, line: 1,
      "neither JSON records (`{` or `[` at the start) nor a .txt file; see the formats in the documentation")
  }

  private static func object(
    _ bytes: UnsafeRawBufferPointer, _ record: RecordIndex.Record, _ path: String
  ) throws(DatasetError) -> JSONObject {
    let slice = UnsafeRawBufferPointer(rebasing: bytes[record.start..<record.start + record.count])
    let value: JSONValue
    do {
      value = try JSONValue.parse(slice, options: .init(refusesDuplicateKeys: true))
    } catch {
      let hint =
        path.hasSuffix(".json") && record.line == 1 && bytes[record.start] == UInt8(ascii: "{")
          && bytes.count > record.count
        ? " (a .json file is one array of records, or has a whole record on every line)" : ""
      throw DatasetError(
        path: path, line: record.line + error.line - 1, "column \(error.column): \(error.message)\(hint)")
    }
    guard let object = value.object else {
      throw DatasetError(path: path, line: record.line, "a record must be a JSON object, this is \(value.kind)")
    }
    return object
  }
}

/// The line, counted from 1, with the first bytes that are not UTF-8.
private func firstInvalidLine(_ bytes: UnsafeRawBufferPointer) -> Int {
  var line = 1
  for piece in bytes.split(separator: 0x0A, omittingEmptySubsequences: false) {
    if String(validating: piece, as: UTF8.self) == nil { return line }
    line += 1
  }
  return line
}
