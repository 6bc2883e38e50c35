import JSONValues

/// The samples of one or several data files, read one after the other: a file may be larger than memory.
///
/// Opening a file finds its layout and the format of the first record; every record is checked when it is read. Every
/// error names the file and the line.
public final class Dataset: Sendable {
  /// What a user says about the files beside their names.
  public struct Options: Sendable, Equatable {
    /// The format of the records; `auto` recognises it.
    public var format: TrainingConfiguration.DataFormat
    /// The files' own names for what formats read.
    public var fields: FieldMapping

    /// Options with the defaults of a run.
    public init(format: TrainingConfiguration.DataFormat = .auto, fields: FieldMapping = .none) {
      self.format = format
      self.fields = fields
    }
  }

  /// The files, in the order in which they are read.
  public let sources: [DatasetSource]

  /// Opens data files; an empty one is an error.
  /// - Parameter paths: Files, folders, patterns, or `-`, each perhaps with a weight: see ``DataFile/expand(_:)``.
  public convenience init(paths: [String], options: Options = Options()) throws {
    try self.init(DataFile.expand(paths), options: options)
  }

  init(
    _ files: [DataFile], options: Options = Options(), recordLimit: Int = RecordReader.maximumRecordBytes,
    pieceBytes: Int = RecordReader.pieceBytes
  ) throws {
    sources = try files.map { try DatasetSource($0, options, recordLimit: recordLimit, pieceBytes: pieceBytes) }
  }

  /// The first samples, at most `count`.
  public func samples(first count: Int = .max) throws -> [DatasetSample] {
    var samples: [DatasetSample] = []
    var reader = makeReader()
    while samples.count < count, let record = try reader.next() {
      samples.append(try sources[record.source].sample(record.raw, isFirst: record.isFirst))
    }
    return samples
  }

  /// Whether the samples are pairs of answers.
  public var holdsPairs: Bool { sources.allSatisfy { $0.format == .preference } }

  /// The files with their formats, one line each.
  public var description: String { sources.map(\.description).joined(separator: "\n") }

  func makeReader() -> DatasetReader { DatasetReader(sources) }
}

/// Goes over the records of all files.
struct DatasetReader {
  /// A record with the file that it is from.
  struct Record: Sendable {
    var source: Int
    var raw: RawRecord
    /// Whether it is the first of its file.
    var isFirst: Bool
  }

  private let sources: [DatasetSource]
  private var source = 0
  private var reader: RecordReader?

  init(_ sources: [DatasetSource]) { self.sources = sources }

  /// The next record; `nil` after the last file.
  mutating func next() throws(DatasetError) -> Record? {
    while source < sources.count {
      let isFirst = reader == nil
      let open: RecordReader
      if let reader { open = reader } else { open = try sources[source].makeReader() }
      reader = open
      if let raw = try open.next() { return Record(source: source, raw: raw, isFirst: isFirst) }
      reader = nil
      source += 1
    }
    return nil
  }

  /// The next records, as many as are worth handing to several threads at once; none after the last file.
  mutating func next(atMost count: Int, byteCount: Int) throws(DatasetError) -> [Record] {
    var records: [Record] = []
    var bytes = 0
    while records.count < count, bytes < byteCount, let record = try next() {
      records.append(record)
      bytes += record.raw.bytes.count
    }
    return records
  }
}
