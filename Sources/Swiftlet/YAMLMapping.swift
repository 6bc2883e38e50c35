import CYAML
import Glibc

/// The flat YAML that a configuration is: one mapping from words to scalars or lists of scalars.
///
/// libyaml reads; whatever is deeper, aliased, or longer than ``byteLimit`` is refused, so a hostile file costs no more
/// than its length.
enum YAMLMapping {
  enum Value: Equatable, Sendable {
    case null
    case scalar(String)
    case sequence([String])
  }

  static let byteLimit = 1 << 20

  /// The pairs in the file's order, with the line of each key from 1.
  static func parse(_ bytes: [UInt8], file: String) throws(YAMLError) -> [(key: String, value: Value, line: Int)] {
    guard bytes.count <= byteLimit else {
      throw YAMLError(file: file, line: nil, message: "is longer than \(byteLimit) bytes; this is no configuration")
    }
    var reader = EventReader(file: file)
    return try reader.read(bytes)
  }
}

private struct EventReader {
  let file: String

  mutating func read(_ bytes: [UInt8]) throws(YAMLError) -> [(key: String, value: YAMLMapping.Value, line: Int)] {
    var parser = yaml_parser_t()
    guard yaml_parser_initialize(&parser) == 1 else {
      throw YAMLError(file: file, line: nil, message: "no memory for the YAML reader")
    }
    defer { yaml_parser_delete(&parser) }

    // libyaml keeps the input's address: it must outlive every event.
    let input = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: max(bytes.count, 1))
    defer { input.deallocate() }
    _ = input.update(fromContentsOf: bytes)
    yaml_parser_set_input_string(&parser, input.baseAddress, bytes.count)

    var pairs: [(key: String, value: YAMLMapping.Value, line: Int)] = []
    guard case .streamStart = try next(&parser).kind else { return [] }
    guard case .documentStart = try next(&parser).kind else { return [] }
    let root = try next(&parser)
    switch root.kind {
    case .mappingStart: break
    case .scalar("", isNull: true): return []
    default: throw error(root, "is not a mapping of keys to values, like \"learning_rate: 2e-4\"")
    }
    while true {
      let key = try next(&parser)
      if case .mappingEnd = key.kind { break }
      guard case .scalar(let name, _) = key.kind else { throw error(key, "a key must be a word") }
      pairs.append((name, try value(of: name, &parser), key.line))
    }
    _ = try next(&parser)
    let end = try next(&parser)
    guard case .streamEnd = end.kind else { throw error(end, "a second document begins here; keep one") }
    return pairs
  }

  private func value(of key: String, _ parser: inout yaml_parser_t) throws(YAMLError) -> YAMLMapping.Value {
    let event = try next(&parser)
    switch event.kind {
    case .scalar(let text, let isNull): return isNull ? .null : .scalar(text)
    case .sequenceStart:
      var items: [String] = []
      while true {
        let item = try next(&parser)
        switch item.kind {
        case .sequenceEnd: return .sequence(items)
        case .scalar(let text, isNull: false): items.append(text)
        default: throw error(item, "\(key): a list may hold texts only")
        }
      }
    default: throw error(event, "\(key): a mapping is not a value; keys are not nested")
    }
  }

  private func error(_ event: Event, _ message: String) -> YAMLError {
    YAMLError(file: file, line: event.line, message: message)
  }

  private struct Event {
    enum Kind {
      case streamStart, streamEnd, documentStart, documentEnd, mappingStart, mappingEnd, sequenceStart, sequenceEnd
      case scalar(String, isNull: Bool)
    }

    let kind: Kind
    let line: Int
  }

  private func next(_ parser: inout yaml_parser_t) throws(YAMLError) -> Event {
    var event = yaml_event_t()
    guard yaml_parser_parse(&parser, &event) == 1 else {
      let problem = parser.problem.map { String(cString: $0) } ?? "cannot be read"
      // The scanner reports where it stands, the byte reader only an offset.
      let line = parser.error == YAML_READER_ERROR ? nil : Int(parser.problem_mark.line) + 1
      throw YAMLError(file: file, line: line, message: "is not YAML: \(problem)")
    }
    defer { yaml_event_delete(&event) }
    let line = Int(event.start_mark.line) + 1
    let kind: Event.Kind
    switch event.type {
    case YAML_STREAM_START_EVENT: kind = .streamStart
    case YAML_DOCUMENT_START_EVENT: kind = .documentStart
    case YAML_DOCUMENT_END_EVENT: kind = .documentEnd
    case YAML_MAPPING_START_EVENT: kind = .mappingStart
    case YAML_MAPPING_END_EVENT: kind = .mappingEnd
    case YAML_SEQUENCE_START_EVENT: kind = .sequenceStart
    case YAML_SEQUENCE_END_EVENT: kind = .sequenceEnd
    case YAML_SCALAR_EVENT:
      let scalar = event.data.scalar
      let text = String(decoding: UnsafeBufferPointer(start: scalar.value, count: scalar.length), as: UTF8.self)
      let isPlain = scalar.style == YAML_PLAIN_SCALAR_STYLE
      kind = .scalar(text, isNull: isPlain && ["", "~", "null", "Null", "NULL"].contains(text))
    case YAML_ALIAS_EVENT:
      throw YAMLError(file: file, line: line, message: "aliases (*name) are not used here; write the value again")
    default: kind = .streamEnd
    }
    return Event(kind: kind, line: line)
  }
}

/// The bytes of a small file; more than the limit reads one byte too many, which the parser refuses.
func readConfigurationFile(_ path: String) throws(YAMLError) -> [UInt8] {
  guard let stream = fopen(path, "rb") else {
    throw YAMLError(file: path, line: nil, message: "cannot be opened: \(String(cString: strerror(errno)))")
  }
  defer { fclose(stream) }
  var bytes = [UInt8](repeating: 0, count: YAMLMapping.byteLimit + 1)
  let count = fread(&bytes, 1, bytes.count, stream)
  guard ferror(stream) == 0 else {
    throw YAMLError(file: path, line: nil, message: "cannot be read: \(String(cString: strerror(errno)))")
  }
  return Array(bytes.prefix(count))
}
