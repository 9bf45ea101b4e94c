// pgjdbc. What it is put through is the same as in ../python/trial.py.

import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Types;
import java.util.HexFormat;
import java.util.Timer;
import java.util.TimerTask;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

public class Jdbc {
    static final String STATEMENT =
            "select ?::int4 + 1, ?::text || '!', not ?::bool, ?::float8 * 2, ?::bytea || '\\x00ff'::bytea, ?::text";
    static final String ROWS = "select g from generate_series(1, 20000) g";
    static final String LONG = "select pg_sleep(30)";

    public static void main(String[] arguments) throws Exception {
        String request = new String(System.in.readAllBytes(), StandardCharsets.UTF_8);
        String answer;
        try (Connection connection = DriverManager.getConnection(field(request, "connection"))) {
            String version = connection.getMetaData().getDriverVersion();
            answer = String.format("{\"driver\": \"pgjdbc %s\", \"row\": [%s], \"rows\": %d, \"cancels\": [%s]}",
                    version, row(connection), rows(connection), cancel(connection));
        } catch (SQLException error) {
            answer = String.format("{\"error\": %s}", quoted(error.getSQLState() + ": " + error.getMessage()));
        }
        System.out.write((answer + "\n").getBytes(StandardCharsets.UTF_8));
        System.out.flush();
    }

    static String row(Connection connection) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(STATEMENT)) {
            statement.setInt(1, 41);
            statement.setString(2, "Gr\u00fc\u00dfe");
            statement.setBoolean(3, true);
            statement.setDouble(4, 1.25);
            statement.setBytes(5, new byte[] {1, 2});
            statement.setNull(6, Types.VARCHAR);
            try (ResultSet found = statement.executeQuery()) {
                found.next();
                String bytes = HexFormat.of().formatHex(found.getBytes(5));
                return String.join(", ", String.valueOf(found.getInt(1)), quoted(found.getString(2)),
                        String.valueOf(found.getBoolean(3)), String.valueOf(found.getDouble(4)), quoted(bytes),
                        quoted(found.getString(6)));
            }
        }
    }

    static int rows(Connection connection) throws SQLException {
        int count = 0;
        try (Statement statement = connection.createStatement(); ResultSet found = statement.executeQuery(ROWS)) {
            while (found.next()) {
                count++;
            }
        }
        return count;
    }

    static String cancel(Connection connection) throws SQLException {
        long started = System.nanoTime();
        String state = null;
        try (Statement statement = connection.createStatement()) {
            Timer timer = new Timer(true);
            timer.schedule(new TimerTask() {
                @Override
                public void run() {
                    try {
                        statement.cancel();
                    } catch (SQLException error) {
                        System.err.println("cancel: " + error.getMessage());
                    }
                }
            }, 500);
            statement.execute(LONG);
        } catch (SQLException error) {
            state = error.getSQLState();
        }
        double seconds = (System.nanoTime() - started) / 1e9;
        try (Statement statement = connection.createStatement(); ResultSet found = statement.executeQuery("select 42")) {
            boolean alive = found.next() && found.getInt(1) == 42;
            return String.format(java.util.Locale.ROOT,
                    "{\"how\": \"plaintext\", \"sqlstate\": %s, \"seconds\": %f, \"alive\": %b}", quoted(state), seconds, alive);
        }
    }

    static String field(String json, String name) {
        Matcher found = Pattern.compile("\"" + name + "\":\\s*\"((?:[^\"\\\\]|\\\\.)*)\"").matcher(json);
        if (!found.find()) {
            throw new IllegalArgumentException("the request has no " + name);
        }
        return found.group(1).replace("\\\"", "\"").replace("\\\\", "\\");
    }

    static String quoted(String text) {
        if (text == null) {
            return "null";
        }
        StringBuilder quoted = new StringBuilder("\"");
        for (char character : text.toCharArray()) {
            boolean plain = character >= ' ' && character != '"' && character != '\\';
            quoted.append(plain ? String.valueOf(character) : String.format("\\u%04x", (int) character));
        }
        return quoted.append('"').toString();
    }
}
