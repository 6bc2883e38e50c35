import CHub
import Glibc
import ModelFiles
import Synchronization

/// A file that arrives in parts, in any order: its bytes beside the blob's final name, and which parts are there.
///
/// A later run goes on with them. Parts are written by many threads, hashed in order by one.
final class PartialFile: Sendable {
  let file: RepositoryFile
  let partSize: Int
  let partCount: Int
  private let blob: String
  private let descriptor: Int32
  private let journal: Int32
  private let lock: Int32
  private let headerCount: Int
  private let state: Mutex<State>

  private struct State {
    var isDone: [Bool]
    /// The redirect's end, for the next part.
    var location: String?
    /// The server sends the whole whatever the range: one thread takes it all.
    var isSerial = false
  }

  private static let title = "swiftlet-parts 1"

  /// Bytes on the disk that an earlier run took for this blob.
  static func reservedBytes(blob: String) -> Int {
    var status = stat()
    return stat(blob + ".swiftlet.incomplete", &status) == 0 ? min(Int(status.st_blocks) * 512, Int(status.st_size)) : 0
  }

  /// Opens what an earlier run left, or begins anew.
  ///
  /// `lock` is the open lock file; it closes with this object.
  init(_ file: RepositoryFile, blob: String, partSize: Int, lock: Int32) throws(ModelFileError) {
    self.file = file
    self.partSize = partSize
    self.blob = blob
    self.lock = lock
    partCount = max(1, file.size / partSize + (file.size % partSize == 0 ? 0 : 1))
    do { descriptor = try Self.open(blob + ".swiftlet.incomplete") } catch {
      close(lock)
      throw error
    }
    do { journal = try Self.open(blob + ".swiftlet.parts") } catch {
      close(descriptor)
      close(lock)
      throw error
    }
    var isDone = [Bool](repeating: false, count: partCount)
    let header = Array("\(Self.title) \(file.size) \(partSize)\n".utf8)
    var found = [UInt8](repeating: 0, count: header.count + partCount)
    let length = pread(journal, &found, found.count, 0)
    var status = stat()
    if length == found.count, found.starts(with: header), fstat(descriptor, &status) == 0, status.st_size == file.size {
      for index in 0..<partCount { isDone[index] = found[header.count + index] == UInt8(ascii: "1") }
    }
    if file.size == 0 { isDone[0] = true }
    headerCount = header.count
    state = Mutex(State(isDone: isDone))
    // From here on deinit closes what is open.
    if !isDone.contains(true) || file.size == 0 { try begin(header) }
  }

  deinit {
    close(descriptor)
    close(journal)
    close(lock)
  }

  private func begin(_ header: [UInt8]) throws(ModelFileError) {
    let content = header + [UInt8](repeating: UInt8(ascii: "0"), count: partCount)
    // The space is taken at once where the file system can: a full disk shows before the download, not after.
    let code = sl_reserve(descriptor, Int64(file.size))
    if code == ENOSPC || code == EDQUOT {
      errno = code
      throw failure()
    }
    guard ftruncate(descriptor, off_t(file.size)) == 0, ftruncate(journal, 0) == 0,
      pwrite(journal, content, content.count, 0) == content.count
    else { throw failure() }
  }

  /// Bytes that are already here.
  var bytesDone: Int { file.size - missing.map { range(of: $0).count }.reduce(0, +) }

  /// The bytes of part `index`.
  func range(of index: Int) -> Range<Int> { index * partSize..<min(file.size, (index + 1) * partSize) }

  func isDone(_ index: Int) -> Bool { state.withLock { $0.isDone[index] } }

  var missing: [Int] { state.withLock { state in state.isDone.indices.filter { !state.isDone[$0] } } }

  var location: String? {
    get { state.withLock { $0.location } }
    set { state.withLock { $0.location = newValue } }
  }

  var isSerial: Bool { state.withLock { $0.isSerial } }

  /// Makes the calling thread the one that takes the whole file; false when another is.
  func claimSerial() -> Bool {
    state.withLock { state in
      defer { state.isSerial = true }
      return !state.isSerial
    }
  }

  /// Writes bytes at their place.
  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(ModelFileError) {
    var done = 0
    while done < bytes.count {
      let count = pwrite(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done, off_t(offset + done))
      if count < 0 {
        if errno == EINTR { continue }
        throw failure()
      }
      done += count
    }
  }

  /// Notes that a part is whole.
  func markDone(_ index: Int) throws(ModelFileError) {
    guard pwrite(journal, "1", 1, off_t(headerCount + index)) == 1 else { throw failure() }
    state.withLock { $0.isDone[index] = true }
  }

  /// Reads a part's bytes through `buffer`, in pieces.
  func read(_ index: Int, buffer: UnsafeMutableRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void)
    throws(ModelFileError)
  {
    var range = range(of: index)
    while !range.isEmpty {
      let count = pread(descriptor, buffer.baseAddress, min(buffer.count, range.count), off_t(range.lowerBound))
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw failure("read") }
      body(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[..<count]))
      range = range.lowerBound + count..<range.upperBound
    }
  }

  /// Gives the whole file its name.
  func publish() throws(ModelFileError) {
    // Blobs are read by everyone who may read the cache, and written by nobody.
    guard fsync(descriptor) == 0, rename(blob + ".swiftlet.incomplete", blob) == 0 else { throw failure() }
    unlink(blob + ".swiftlet.parts")
  }

  /// Forgets what was fetched.
  func discard() {
    unlink(blob + ".swiftlet.incomplete")
    unlink(blob + ".swiftlet.parts")
  }

  private func failure(_ action: String = "write") -> ModelFileError {
    let reason =
      errno == ENOSPC || errno == EDQUOT
      ? "the disk is full; free some space and run the same command again" : String(cString: strerror(errno))
    return ModelFileError(blob, "cannot \(action): \(reason)")
  }

  private static func open(_ path: String) throws(ModelFileError) -> Int32 {
    let descriptor = Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o666)
    if descriptor < 0 { throw ModelFileError(path, "cannot write: " + String(cString: strerror(errno))) }
    return descriptor
  }
}
