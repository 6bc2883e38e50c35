/// Writes a GGUF again with other metadata; tensors, their order and every other entry stay byte for byte.
public enum GGUFRewriter {
  /// Copies `source` to `path` with some entries replaced, or added at the end of the metadata.
  ///
  /// The file appears whole or not at all.
  public static func write(
    _ source: GGUFFile, changing changes: [(key: String, value: GGUFValue)], to path: String
  ) throws(ModelFileError) {
    let bytes = source.file.bytes
    var reader = GGUFReader(path: source.path, bytes: bytes)
    let (_, tensorCount, entryCount) = try reader.readPreamble()
    let preambleEnd = reader.position
    var isWritten = [Bool](repeating: false, count: changes.count)
    var entries: [UInt8] = []
    for index in 0..<entryCount {
      let start = reader.position
      let (key, _) = try reader.readEntry(index)
      if let change = changes.lastIndex(where: { $0.key == key }) {
        entries += GGUFEncoding.entry(key, changes[change].value)
        isWritten[change] = true
      } else {
        entries += bytes[start..<reader.position]
      }
    }
    var count = entryCount
    for (change, done) in zip(changes, isWritten) where !done {
      entries += GGUFEncoding.entry(change.key, change.value)
      count += 1
    }
    let tensorsStart = reader.position
    for index in 0..<tensorCount { _ = try reader.readTensor(index) }
    let tensorsEnd = reader.position

    var header = Array(bytes[..<(preambleEnd - 8)])
    header += GGUFEncoding.integer(UInt64(count))
    header += entries
    header += bytes[tensorsStart..<tensorsEnd]
    let dataStart = min(bytes.count, padded(tensorsEnd, source.alignment))
    if dataStart < bytes.count {
      header += [UInt8](repeating: 0, count: padded(header.count, source.alignment) - header.count)
    }
    let writer = try AtomicFileWriter(path: path, expectedByteCount: header.count + bytes.count - dataStart)
    try writer.write(header)
    try writer.write(UnsafeRawBufferPointer(rebasing: bytes[dataStart...]))
    try writer.commit()
  }

  /// The next multiple of an alignment, which was checked when the file was opened.
  private static func padded(_ position: Int, _ alignment: Int) -> Int {
    (position + alignment - 1) & ~(alignment - 1)
  }
}
